//! Where checkpoints go: files that are appended to, and servers that are posted to. Nobody waits for either.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use taskiq_flow_outbound::{Reach, Url};

/// So many wait for a target that does not take them; then the oldest is dropped: each new one vouches for as much.
const MAX_WAITING: usize = 1_000;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the end of the log waits for a target.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Where checkpoints go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointTarget {
    /// A file, made with mode 0600 if it is not there, to which a line is appended.
    File(PathBuf),
    /// A server, to which each checkpoint is posted as JSON.
    Url(Url),
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is no URL.
    #[error("it is no URL: {0}")]
    Url(String),
    /// Its address must not be asked.
    #[error("{0}")]
    Address(String),
    /// Neither TLS nor this machine.
    #[error("it must begin with https://; http:// is for this machine alone, as in http://127.0.0.1:9000/")]
    Plain,
    /// It holds a password.
    #[error("it must not hold a user name or password")]
    Password,
}

/// How a target does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TargetStatus {
    /// The file's name, or the server's.
    pub target: String,
    /// Checkpoints that wait for it.
    pub waiting: usize,
    /// Why it did not take the last one.
    pub error: Option<String>,
}

/// A target at work.
#[derive(Debug)]
pub(crate) struct Delivery {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: CheckpointTarget,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    error: Option<String>,
    close_by: Option<Instant>,
    done: bool,
}

impl CheckpointTarget {
    /// A path, or a URL.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url: Url = text.parse().map_err(|error| TargetError::Url(format!("{error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Password);
        }
        let reach = reach(&url).ok_or(TargetError::Plain)?;
        reach.check(&url).map_err(|error| TargetError::Address(error.to_string()))?;
        Ok(Self::Url(url))
    }

    fn label(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => url.origin().ascii_serialization(),
        }
    }
}

/// What a URL may lead to: by TLS anything but the metadata of a cloud, without it this machine.
fn reach(url: &Url) -> Option<Reach> {
    match url.scheme() {
        "https" => Some(Reach::Internal),
        "http" => {
            let local = url.host_str() == Some("localhost")
                || taskiq_flow_outbound::literal(url).is_some_and(|ip| ip.is_loopback());
            local.then_some(Reach::Loopback)
        }
        _ => None,
    }
}

impl Delivery {
    /// Starts the target's thread.
    pub(crate) fn start(target: CheckpointTarget) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        let run = move || {
            match worker.target.clone() {
                CheckpointTarget::File(path) => worker.run(|line, _| append(&path, line)),
                CheckpointTarget::Url(url) => match Post::new(url) {
                    Ok(post) => worker.run(|line, within| post.send(line, within)),
                    Err(error) => worker.state.lock().error = Some(error),
                },
            }
            worker.state.lock().done = true;
            worker.changed.notify_all();
        };
        let thread = thread::Builder::new().name("audit-checkpoint".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands a checkpoint over.
    pub(crate) fn send(&self, line: String) {
        let mut state = self.shared.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.pop_front();
            metrics::counter!("taskiq_flow_audit_checkpoints_dropped_total").increment(1);
        }
        state.waiting.push_back(line);
        drop(state);
        self.shared.changed.notify_all();
    }

    pub(crate) fn status(&self) -> TargetStatus {
        let state = self.shared.state.lock();
        let target = self.shared.target.label();
        TargetStatus { target, waiting: state.waiting.len(), error: state.error.clone() }
    }

    /// Lets the target take what waits, a second at most.
    pub(crate) fn close(mut self) {
        let by = Instant::now() + CLOSE_WITHIN;
        let mut state = self.shared.state.lock();
        state.close_by = Some(by);
        self.shared.changed.notify_all();
        self.shared.changed.wait_while_until(&mut state, |state| !state.done, by);
        let (done, left) = (state.done, state.waiting.len());
        drop(state);
        if left > 0 {
            tracing::error!(
                target = self.shared.target.label(),
                checkpoints = left,
                "checkpoints were not delivered before the end"
            );
        }
        // One that still waits for an answer ends with the process.
        if let (true, Some(thread)) = (done, self.thread.take()) {
            _ = thread.join();
        }
    }
}

impl Shared {
    /// Gives `deliver` what comes, in order, until the end; it is told how long it may take.
    fn run(&self, deliver: impl Fn(&str, Duration) -> Result<(), String>) {
        let mut pause = FIRST_PAUSE;
        let mut state = self.state.lock();
        loop {
            let Some(line) = state.waiting.front().cloned() else {
                if state.close_by.is_some() {
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            };
            let within = match state.close_by {
                Some(by) => by.saturating_duration_since(Instant::now()),
                None => ANSWER_WITHIN,
            };
            drop(state);
            let delivered = deliver(&line, within);
            state = self.state.lock();
            match delivered {
                Ok(()) => {
                    // Unless it was dropped meanwhile to make room.
                    if state.waiting.front() == Some(&line) {
                        state.waiting.pop_front();
                    }
                    state.error = None;
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    metrics::counter!("taskiq_flow_audit_checkpoint_errors_total").increment(1);
                    if state.error.is_none() {
                        tracing::error!(
                            target = self.target.label(),
                            error,
                            "a checkpoint was not delivered; it will be tried again"
                        );
                    }
                    state.error = Some(error);
                    if state.close_by.is_some() {
                        return;
                    }
                    let until = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.changed.wait_while_until(&mut state, |state| state.close_by.is_none(), until);
                }
            }
        }
    }
}

fn append(path: &std::path::Path, line: &str) -> Result<(), String> {
    let append = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    };
    append().map_err(|error: std::io::Error| error.to_string())
}

/// Posts from a thread of its own.
struct Post {
    url: Url,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Post {
    fn new(url: Url) -> Result<Self, String> {
        let reach = reach(&url).ok_or_else(|| TargetError::Plain.to_string())?;
        let client = taskiq_flow_outbound::client(reach).user_agent("taskiq-flow").build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            url,
            client: client.map_err(|error| error.to_string())?,
            runtime: runtime.map_err(|error| error.to_string())?,
        })
    }

    fn send(&self, line: &str, within: Duration) -> Result<(), String> {
        self.runtime.block_on(async {
            let request = self.client.post(self.url.clone()).timeout(within);
            let answer =
                request.header("content-type", "application/json").body(line.to_owned()).send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("it answered {}", answer.status())),
                // The address may hold what is nobody's business.
                Err(error) => Err(error.without_url().to_string()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_leaves_this_machine() {
        let parse = CheckpointTarget::parse;
        assert_eq!(parse("a/b.jsonl").unwrap(), CheckpointTarget::File("a/b.jsonl".into()));
        for good in [
            "https://logs.example/audit",
            "https://10.0.0.7/",
            "http://127.0.0.1:9/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("http://logs.example/"), Err(TargetError::Plain));
        assert_eq!(parse("http://10.0.0.7/"), Err(TargetError::Plain));
        assert_eq!(parse("ftp://logs.example/"), Err(TargetError::Plain));
        assert_eq!(parse("https://u:p@logs.example/"), Err(TargetError::Password));
        assert!(matches!(parse("https://169.254.169.254/"), Err(TargetError::Address(_))));
        assert!(matches!(parse("https://"), Err(TargetError::Url(_))));
    }

    #[test]
    fn a_file_that_comes_late_gets_what_waited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/checkpoints.jsonl");
        let delivery = Delivery::start(CheckpointTarget::File(path.clone())).unwrap();
        delivery.send("1".into());
        delivery.send("2".into());
        let until = Instant::now() + Duration::from_secs(5);
        while delivery.status().error.is_none() {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(delivery.status().waiting, 2);
        std::fs::create_dir(folder.path().join("later")).unwrap();
        delivery.close();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1\n2\n");
    }

    #[test]
    fn what_waits_is_bounded() {
        let target = CheckpointTarget::File("/nonexistent/x".into());
        let delivery = Delivery::start(target).unwrap();
        (0..MAX_WAITING + 10).for_each(|n| delivery.send(n.to_string()));
        assert_eq!(delivery.status().waiting, MAX_WAITING);
        assert_eq!(delivery.shared.state.lock().waiting.back().unwrap(), &(MAX_WAITING + 9).to_string());
        delivery.close();
    }
}
