//! One round: the server is started to die at a place, has work until it does, is started again, and ends its work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use serde_json::json;
use taskiq_flow_testkit::{Client, Receiver, Server, until};

use crate::evidence::{Effects, check_run, check_schedule, check_triggers, told};
use crate::load::{Asked, Load, ask, ask_again, ask_until_gone, pipelines};

/// The built program, and one that has Rust tasks.
const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");
const WITH_TASKS: &str = env!("CARGO_BIN_EXE_crash-program");
/// How long it may take until the place is passed often enough, and until all runs have ended.
const LIMIT: Duration = Duration::from_secs(60);
/// Three days.
const LONG_AGO: i64 = 3 * 86_400_000;

/// Kills at a place as often as `CRASH_KILLS` says, after 1 to `most` passings.
pub(crate) async fn matrix(place: &str, load: Load, most: usize) {
    let kills = std::env::var("CRASH_KILLS").ok().map_or(2, |text| text.parse().unwrap());
    let mut rounds = Rounds::start(load).await;
    for kill in 0..kills {
        // 5 and the numbers of passings have no common divisor: each comes equally often.
        rounds.play(place, 1 + (kill * 5 + kill / most) % most).await;
    }
}

struct Rounds {
    load: Load,
    server: Server,
    client: Client,
    effects: PathBuf,
    asked: Arc<Mutex<Asked>>,
    /// Runs that have been made to look old.
    aged: Vec<String>,
    /// Who is told of the ends of runs.
    receiver: Receiver,
}

impl Rounds {
    async fn start(load: Load) -> Self {
        let program = if load == Load::Instant { WITH_TASKS } else { PROGRAM };
        let builder = Server::builder(program).admin_key("k").without_limits();
        let effects = builder.dir().join("effects");
        std::fs::write(&effects, "").unwrap();
        let builder = builder.env("TASKIQ_FLOW_RETENTION_DAYS", "1").env("TASKIQ_FLOW_LOG_LEVEL", "warn");
        let receiver = Receiver::start().await;
        let builder = match load {
            Load::Told => builder.env("TASKIQ_FLOW_WEBHOOKS", webhooks(&receiver)),
            Load::Instant => builder.env("EFFECTS", effects.display().to_string()),
            _ => builder,
        };
        let pipelines = pipelines(load, &effects);
        let builder = pipelines.iter().fold(builder, |builder, yaml| builder.pipeline(yaml));
        let server = builder.start().await;
        let client = server.client().key("k");
        Self { load, server, client, effects, asked: Arc::default(), aged: Vec::new(), receiver }
    }

    async fn play(&mut self, place: &str, passing: usize) {
        self.prepare().await;
        self.server.kill9().await;
        if self.load == Load::Aged {
            self.age();
        }
        self.server.set_env("FAILPOINT", Some(format!("{place}:{passing}")));
        if self.server.try_restart().await.is_ok() {
            let asking = ask_until_gone(self.load, &self.client, &self.asked);
            let gone =
                tokio::time::timeout(LIMIT, async { tokio::join!(asking, self.server.ended(LIMIT)).1 });
            let exit = gone.await.ok().flatten();
            let exit = exit.unwrap_or_else(|| {
                panic!("{place} was not passed {passing} times: {}", self.server.stderr())
            });
            assert_eq!(exit.code, None, "{place}: it ended by itself: {}", exit.stderr);
        }
        self.server.set_env("FAILPOINT", None);
        self.server.restart().await;
        self.settle(place, passing).await;
    }

    /// What must be there before the server starts to die.
    async fn prepare(&mut self) {
        let runs = match self.load {
            Load::Unfinished => 8,
            Load::Aged => 3,
            _ => return,
        };
        for _ in 0..runs {
            assert!(ask(self.load, &self.client, &self.asked).await);
        }
        if self.load == Load::Aged {
            self.all_ended("before they age").await;
        }
    }

    /// Has all runs look as if they had ended long ago.
    fn age(&mut self) {
        let store = Connection::open(self.server.dir().join("state.db")).unwrap();
        for table in ["runs", "recent_runs"] {
            let age =
                format!("UPDATE {table} SET finished_at = finished_at - ?1 WHERE finished_at IS NOT NULL");
            store.execute(&age, [LONG_AGO]).unwrap();
        }
        self.aged.extend(self.asked.lock().accepted.drain(..).map(|(run_id, _)| run_id));
    }

    /// All runs must end, and all that is known of them must fit.
    async fn settle(&mut self, place: &str, passing: usize) {
        let mut asked = std::mem::take(&mut *self.asked.lock());
        ask_again(&self.client, &mut asked).await;
        if self.load == Load::Unfinished {
            for (run_id, _) in &asked.accepted {
                let reply = self.client.post(&format!("/runs/{run_id}/signals/go"), &json!(true)).await;
                // One that was asked for again has had its signal, and may have ended.
                assert!([202, 409].contains(&reply.status), "{run_id}: {}", reply.text());
            }
        }
        self.all_ended(&format!("after a death at passing {passing} of {place}")).await;
        let effects = Effects::read(&self.effects);
        if self.load == Load::Told {
            self.check_told(&asked).await;
        }
        for (run_id, pipeline) in asked.accepted.drain(..) {
            let wanted = if pipeline == "slow" { "cancelled" } else { "completed" };
            check_run(&self.client, &run_id, wanted, &effects).await;
        }
        match self.load {
            Load::Inner => check_triggers(&self.client, "inner", &effects).await,
            Load::Scheduled => check_schedule(&self.client, "tick", &effects).await,
            Load::Aged => self.check_removed().await,
            _ => {}
        }
        // The keys go on, so that no later run has an earlier one's.
        *self.asked.lock() = asked;
    }

    async fn all_ended(&self, when: &str) {
        let mut open = Vec::new();
        let ended = until(LIMIT, async || {
            open.clear();
            for status in ["queued", "running", "paused"] {
                let page =
                    self.client.get(&format!("/runs?status={status}&limit=100")).await.expect(200).json();
                open.extend(page["runs"].as_array().unwrap().iter().cloned());
            }
            // A schedule that fires each second starts ever new ones: those may go on.
            let fresh = self.load == Load::Scheduled && open.len() <= 1;
            (open.is_empty() || fresh).then_some(())
        });
        assert!(ended.await.is_some(), "stuck {when}: {open:#?}\n{}", self.server.stderr());
    }

    /// The end of each run is told, under one id however often.
    async fn check_told(&self, asked: &Asked) {
        let is_told = || {
            let told = told(&self.receiver.received());
            asked.accepted.iter().all(|(run_id, _)| told.contains_key(run_id))
        };
        let all = until(LIMIT, async || is_told().then_some(())).await;
        assert!(all.is_some(), "not all ends were told: {:?} of {asked:?}", told(&self.receiver.received()));
        let twice: Vec<_> =
            told(&self.receiver.received()).into_iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert!(twice.is_empty(), "told under several ids: {twice:?}");
    }

    /// What is old is gone wholly, and nothing else is.
    async fn check_removed(&mut self) {
        for run_id in self.aged.drain(..) {
            let path = format!("/runs/{run_id}");
            let gone =
                until(LIMIT, async || (self.client.get(&path).await.status == 404).then_some(())).await;
            assert!(gone.is_some(), "run {run_id} is old and still there");
        }
        let store = Connection::open(self.server.dir().join("state.db")).unwrap();
        let runs = "SELECT r.id, n.number FROM runs r JOIN run_numbers n ON n.run = r.id
                    UNION ALL SELECT id, number FROM recent_runs";
        let tables =
            [("run_log", "place >> 26", "number"), ("logs", "run", "id"), ("run_numbers", "run", "id")];
        for (table, run, of) in tables {
            let query =
                format!("SELECT count(*) FROM {table} WHERE {run} NOT IN (SELECT {of} FROM ({runs}))");
            let left: i64 = store.query_row(&query, [], |row| row.get(0)).unwrap();
            assert_eq!(left, 0, "rows of `{table}` have outlived their runs");
        }
    }
}

/// One webhook that is told of each run that completes.
fn webhooks(receiver: &Receiver) -> String {
    let webhook = json!({
        "name": "ends", "url": receiver.url(), "secret": "a secret of the webhook", "pipelines": ["*"],
        "events": ["PipelineCompleteEvent"], "allow_internal": true,
    });
    json!([webhook]).to_string()
}
