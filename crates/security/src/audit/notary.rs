//! Signs checkpoints of the log from time to time, and has them delivered.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::chain::Checkpoint;
use super::deliver::{CheckpointTarget, Delivery, TargetStatus};
use super::error::AuditError;
use super::follower::{FollowError, Follower, Kept};
use super::progress::{Progress, Wake};
use super::signed::{SignedCheckpoint, SigningKey, VerifyKey};

/// How checkpoints are made.
#[derive(Debug, Clone)]
pub struct CheckpointOptions {
    /// The log's name; see [`is_origin`](super::is_origin).
    pub origin: String,
    /// The key that signs.
    pub key: Arc<SigningKey>,
    /// The key that signed before, if it was replaced: it signs that the other one follows.
    pub previous: Option<Arc<SigningKey>>,
    /// Where they go.
    pub targets: Vec<CheckpointTarget>,
    /// At most so long after something was recorded.
    pub every: Duration,
    /// At the latest after so many records.
    pub records: u64,
}

/// How the checkpoints of a log do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointStatus {
    /// The log's name.
    pub origin: String,
    /// The key that signs.
    pub key: VerifyKey,
    /// The newest one of this process.
    pub last: Option<SignedCheckpoint>,
    /// Why none is signed any more.
    pub error: Option<String>,
    /// The targets.
    pub targets: Vec<TargetStatus>,
}

pub(crate) struct Notary {
    shared: Arc<Shared>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    options: CheckpointOptions,
    deliveries: Mutex<Vec<Delivery>>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    last: Option<SignedCheckpoint>,
    error: Option<String>,
}

/// What the thread works with.
struct Desk {
    shared: Arc<Shared>,
    log: PathBuf,
    /// What a restart left behind.
    kept: Option<Kept>,
    follower: Option<Follower>,
}

impl Notary {
    /// What was kept of an earlier process; whether its key is another and gives way now.
    ///
    /// # Errors
    /// [`AuditError::Checkpoints`] when the log is another one, or its key nobody's here.
    pub(crate) fn prepare(
        options: &CheckpointOptions,
        log: PathBuf,
    ) -> Result<(Preparation, bool), AuditError> {
        let refused = |what: String| AuditError::Checkpoints { path: Kept::path(&log), what };
        let kept = Kept::load(&log).map_err(|error| refused(error.to_string()))?;
        let mut gives_way = false;
        if let Some(kept) = &kept {
            if kept.origin != options.origin {
                return Err(refused(format!(
                    "the log was called `{}` so far, and is now called `{}`; keep the name, or begin a new log",
                    kept.origin, options.origin
                )));
            }
            if kept.key != options.key.verify_key().to_string() {
                let previous = options.previous.as_ref().map(|key| key.verify_key().to_string());
                if previous.as_deref() != Some(kept.key.as_str()) {
                    return Err(refused(
                        "another key signed so far; name its file in `audit_previous_signing_key`, so that it can sign \
                         that the new one follows, or begin a new log"
                            .to_owned(),
                    ));
                }
                gives_way = true;
            }
        }
        Ok((Preparation { options: options.clone(), log, kept }, gives_way))
    }

    /// Starts signing.
    pub(crate) fn start(preparation: Preparation, progress: Arc<Progress>) -> Result<Self, AuditError> {
        let Preparation { options, log, kept } = preparation;
        let deliveries = options.targets.iter().cloned().map(Delivery::start).collect::<Result<Vec<_>, _>>();
        let shared = Arc::new(Shared {
            deliveries: Mutex::new(deliveries.map_err(AuditError::Thread)?),
            told: Mutex::default(),
            options,
        });
        // Opened before anybody can move it. What stands against it now is found, and said, by the thread.
        let follower = Follower::new(log.clone(), kept.as_ref()).ok();
        let desk = Desk { shared: Arc::clone(&shared), log, kept, follower };
        let watched = Arc::clone(&progress);
        let thread = thread::Builder::new().name("audit-notary".to_owned()).spawn(move || desk.run(&watched));
        Ok(Self { shared, progress, thread: Some(thread.map_err(AuditError::Thread)?) })
    }

    pub(crate) fn status(&self) -> CheckpointStatus {
        let Shared { options, deliveries, told } = &*self.shared;
        let told = told.lock();
        CheckpointStatus {
            origin: options.origin.clone(),
            key: options.key.verify_key(),
            last: told.last.clone(),
            error: told.error.clone(),
            targets: deliveries.lock().iter().map(Delivery::status).collect(),
        }
    }

    /// Signs the end, once the log is written, and has it delivered.
    pub(crate) fn close(&mut self) {
        self.progress.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that signs checkpoints panicked");
        }
        std::mem::take(&mut *self.shared.deliveries.lock()).into_iter().for_each(Delivery::close);
    }
}

/// A [`Notary`] that may start.
pub(crate) struct Preparation {
    options: CheckpointOptions,
    log: PathBuf,
    kept: Option<Kept>,
}

impl Preparation {
    /// The last record that was signed.
    pub(crate) fn signed(&self) -> Option<Checkpoint> {
        self.kept.as_ref()?.at()
    }
}

impl Desk {
    fn run(mut self, progress: &Progress) {
        let Shared { options, .. } = &*Arc::clone(&self.shared);
        let (mut seen, mut from) = (0, Instant::now());
        loop {
            let (wake, last) = match progress.wait(seen, from, options.records) {
                Wake::Due(at) => (Some(at), false),
                Wake::Moved(at) => {
                    // What is left in the file that was moved is read before it is gone; it is signed in its time.
                    if let Some(at) = at
                        && let Err(error) = self.follow(at)
                    {
                        self.note(&error);
                    }
                    continue;
                }
                Wake::Closed(at) => (at.filter(|at| at.seq > seen), true),
            };
            if let Some(at) = wake {
                match self.sign(at) {
                    Ok(()) => seen = at.seq,
                    Err(error) => {
                        self.note(&error);
                        if matches!(error, FollowError::Changed(_)) {
                            // Nothing is signed that is not what was written, now or later.
                            while !last && !matches!(progress.wait(u64::MAX, from, u64::MAX), Wake::Closed(_))
                            {
                            }
                            return;
                        }
                        if !last {
                            progress.rest(options.every.min(Duration::from_secs(5)));
                        }
                    }
                }
            }
            if last {
                return;
            }
            from = Instant::now() + options.every;
        }
    }

    fn follow(&mut self, at: Checkpoint) -> Result<&mut Follower, FollowError> {
        if self.follower.is_none() {
            self.follower = Some(Follower::new(self.log.clone(), self.kept.as_ref())?);
        }
        match &mut self.follower {
            Some(follower) => follower.advance(at).map(|()| follower),
            None => Err(FollowError::Io(std::io::ErrorKind::NotFound.into())),
        }
    }

    fn sign(&mut self, at: Checkpoint) -> Result<(), FollowError> {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let own = options.key.verify_key();
        let before = self.kept.as_ref().map(|kept| kept.key.clone());
        let follower = self.follow(at)?;
        let (tree, first) = follower.tree();
        let unsigned = SignedCheckpoint {
            origin: options.origin.clone(),
            size: tree.size(),
            root: tree.root(),
            first,
            head: at,
            time: Timestamp::now(),
            successor: None,
            key_id: [0; 4],
            signature: [0; 64],
        };
        let gives_way = options.previous.as_ref().filter(|key| before == Some(key.verify_key().to_string()));
        if let Some(previous) = gives_way.filter(|key| key.verify_key() != own) {
            shared.deliver(previous, SignedCheckpoint { successor: Some(own), ..unsigned.clone() })?;
        }
        shared.deliver(&options.key, unsigned)?;
        let kept = follower.kept(&options.origin, own);
        follower.keep(&kept)?;
        self.kept = Some(kept);
        Ok(())
    }

    fn note(&self, error: &FollowError) {
        metrics::counter!("taskiq_flow_audit_checkpoint_errors_total").increment(1);
        let text = error.to_string();
        let mut told = self.shared.told.lock();
        if told.error.as_ref() != Some(&text) {
            tracing::error!(log = %self.log.display(), error = text, "no checkpoint of the audit log can be signed");
        }
        told.error = Some(text);
    }
}

impl Shared {
    fn deliver(&self, key: &SigningKey, unsigned: SignedCheckpoint) -> Result<(), FollowError> {
        let signed = key.sign(unsigned).map_err(|error| FollowError::Io(std::io::Error::other(error)))?;
        let line = signed.to_json();
        self.deliveries.lock().iter().for_each(|delivery| delivery.send(line.clone()));
        metrics::counter!("taskiq_flow_audit_checkpoints_total").increment(1);
        let mut told = self.told.lock();
        told.last = Some(signed);
        told.error = None;
        Ok(())
    }
}
