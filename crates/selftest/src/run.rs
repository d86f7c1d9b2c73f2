//! Asking everything, at the pace the server allows.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio::time::Instant;

use crate::client::{Answer, Client, ClientError};
use crate::plan::{Check, Form, Judge, Scope, body, checks, path};
use crate::report::Report;
use crate::routes::ROWS;
use crate::topics::{self, Session};
use crate::world::World;

/// The window in which bad credentials are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How the matrix is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much is asked.
    pub scope: Scope,
    /// How many are asked at the same time, at least one.
    pub at_once: usize,
    /// At most so many bad credentials in a minute: beyond a server's `auth_failure_limit` it refuses good ones from
    /// the same address too. None: as fast as they come.
    pub bad_credentials_per_minute: Option<u32>,
    /// Whatever has not been asked by then is not asked.
    pub deadline: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Requests and sockets done.
    pub done: usize,
    /// All of them.
    pub all: usize,
    /// How long nothing can be asked now.
    pub waiting: Option<Duration>,
}

/// Something that looks at every answer too; what it says is a finding.
pub type Inspect<'a> = dyn FnMut(&Check, &Answer) -> Option<String> + Send + 'a;

/// One of the two things there are to do.
#[derive(Debug, Clone)]
enum Job {
    Request(Check),
    Socket(Session),
}

/// What came of it.
enum Outcome {
    Answer(Answer),
    Fault(Option<String>),
    Later(Duration),
}

/// What must be waited for.
#[derive(Debug, Default)]
struct Pace {
    /// Until when a limit refuses, by its name.
    limits: HashMap<String, Instant>,
    /// The limit of a route, once it is known.
    names: HashMap<(&'static str, &'static str), String>,
    /// When bad credentials were presented.
    bad: VecDeque<Instant>,
    bad_per_minute: Option<u32>,
}

/// The limit of the sockets.
const SOCKETS: &str = "websocket_connect";

/// Runs the matrix.
///
/// # Errors
/// The server does not answer.
pub async fn run(
    client: &Client,
    world: &World,
    options: &Options,
    mut inspect: Option<&mut Inspect<'_>>,
    mut tell: impl FnMut(Progress),
) -> Result<Report, ClientError> {
    let mut report = Report::new(world);
    let mut judge = Judge::default();
    let mut pace = Pace { bad_per_minute: options.bad_credentials_per_minute, ..Pace::default() };
    let requests = checks(world, options.scope).into_iter().map(Job::Request);
    let mut jobs: VecDeque<Job> =
        requests.chain(topics::sessions(world, options.scope).into_iter().map(Job::Socket)).collect();
    let (all, end) = (jobs.len(), Instant::now() + options.deadline);
    while !jobs.is_empty() {
        tell(Progress { done: all - jobs.len(), all, waiting: None });
        if Instant::now() > end {
            report.skipped.push(format!("{} requests: there was no more time", jobs.len()));
            break;
        }
        let mut batch = Vec::new();
        while batch.len() < options.at_once.max(1) {
            let next =
                jobs.iter().position(|job| pace.ready(job, world)).and_then(|place| jobs.remove(place));
            let Some(job) = next else { break };
            pace.spend(&job, world);
            batch.push(job);
        }
        if batch.is_empty() {
            let wait = pace.wait().min(end.saturating_duration_since(Instant::now()) + WINDOW);
            tell(Progress { done: all - jobs.len(), all, waiting: Some(wait) });
            tokio::time::sleep(wait).await;
            continue;
        }
        let outcomes = join_all(batch.iter().map(|job| carry_out(client, world, job))).await;
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            match (&job, outcome?) {
                (Job::Request(check), Outcome::Answer(answer)) => {
                    if let Some(wait) = answer.retry_after() {
                        pace.refused(check, &answer, wait);
                        jobs.push_back(job);
                        continue;
                    }
                    pace.learn(check, &answer);
                    let mut fault = judge.fault(check, world, &answer);
                    if let (None, Some(inspect)) = (&fault, &mut inspect) {
                        fault = inspect(check, &answer);
                    }
                    let place = ROWS.iter().position(|row| std::ptr::eq(row, check.row));
                    report.request(check, place.unwrap_or_default(), world, fault);
                }
                (Job::Socket(session), Outcome::Fault(fault)) => {
                    let path = if session.pipeline.is_some() { "/ws/{id}" } else { "/ws" };
                    report.socket(session.caller, path, fault);
                }
                (_, Outcome::Later(wait)) => {
                    pace.limits.insert(SOCKETS.to_owned(), Instant::now() + wait);
                    jobs.push_back(job);
                }
                // A request is answered, a socket is judged.
                _ => {}
            }
        }
    }
    tell(Progress { done: all, all, waiting: None });
    Ok(report)
}

async fn carry_out(client: &Client, world: &World, job: &Job) -> Result<Outcome, ClientError> {
    Ok(match job {
        Job::Request(check) => Outcome::Answer(ask(client, world, check).await?),
        Job::Socket(session) => match topics::fault(session, world, client).await? {
            Ok(fault) => Outcome::Fault(fault),
            Err(wait) => Outcome::Later(wait),
        },
    })
}

async fn ask(client: &Client, world: &World, check: &Check) -> Result<Answer, ClientError> {
    let method = match check.form {
        Form::Head => Method::HEAD,
        // The table's methods are those of HTTP.
        _ => Method::from_bytes(check.row.method.as_bytes()).unwrap_or_default(),
    };
    let credential = &world.callers[check.caller].credential;
    let stream = check.form == Form::Stream;
    client.ask(&method, &path(check, world), credential, body(check, world), stream).await
}

impl Pace {
    fn ready(&self, job: &Job, world: &World) -> bool {
        let now = Instant::now();
        let limit = self.limit_of(job).and_then(|limit| self.limits.get(limit));
        let bad = is_bad(job, world) && self.bad_is_spent(now);
        limit.is_none_or(|until| *until <= now) && !bad
    }

    /// How long until something may go on again.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let limits = self.limits.values().filter(|until| **until > now).copied();
        let bad = self.bad.front().filter(|_| self.bad_is_spent(now)).map(|first| *first + WINDOW);
        let next = limits.chain(bad).min().unwrap_or(now);
        next.saturating_duration_since(now).max(Duration::from_millis(100))
    }

    fn spend(&mut self, job: &Job, world: &World) {
        if self.bad_per_minute.is_some() && is_bad(job, world) {
            let now = Instant::now();
            self.bad.push_back(now);
            while self.bad.front().is_some_and(|first| *first + WINDOW < now) {
                self.bad.pop_front();
            }
        }
    }

    fn bad_is_spent(&self, now: Instant) -> bool {
        let recent = self.bad.iter().filter(|at| **at + WINDOW > now).count();
        self.bad_per_minute.is_some_and(|most| recent >= most as usize)
    }

    fn refused(&mut self, check: &Check, answer: &Answer, wait: Duration) {
        self.learn(check, answer);
        let name = self.names.get(&(check.row.method, check.row.path)).cloned();
        self.limits.insert(name.unwrap_or_else(|| check.row.path.to_owned()), Instant::now() + wait);
    }

    /// `RateLimit-Policy: "get_dag";q=120;w=60` names the limit.
    fn learn(&mut self, check: &Check, answer: &Answer) {
        let name = answer.header("ratelimit-policy").split('"').nth(1).unwrap_or(check.row.path);
        self.names.insert((check.row.method, check.row.path), name.to_owned());
    }

    fn limit_of(&self, job: &Job) -> Option<&str> {
        match job {
            Job::Request(check) => self.names.get(&(check.row.method, check.row.path)).map(String::as_str),
            Job::Socket(_) => Some(SOCKETS),
        }
    }
}

fn is_bad(job: &Job, world: &World) -> bool {
    let caller = match job {
        Job::Request(check) => check.caller,
        Job::Socket(session) => session.caller,
    };
    world.callers[caller].is_bad()
}
