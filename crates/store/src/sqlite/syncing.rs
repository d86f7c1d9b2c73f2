//! Brings to the disk, a few milliseconds after them, what relaxed commits have left with the operating system and what is
//! committed after it was told as done.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::fault::io_at;
use super::paths::sync_directory;
use crate::error::StoreError;

/// How long a relaxed commit waits for others that go to the disk with it.
pub(super) const GATHER: Duration = Duration::from_millis(5);
/// Pause after the disk has refused.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A thread that waits for the disk, so that nobody else does. Dropping it brings the last commits there.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Something has been committed that is not on the disk.
    dirty: bool,
    stopping: bool,
}

impl Syncer {
    /// Starts the thread. `sync` brings to the disk what has been committed before it is called, at most `gather` after that.
    pub(super) fn start(
        path: &Path,
        gather: Duration,
        sync: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("sqlite-sync".to_owned()).spawn({
            let (shared, path) = (Arc::clone(&shared), path.to_owned());
            move || shared.run(gather, sync, &path)
        });
        let thread = thread
            .map_err(|error| io_at(path, "the thread that waits for the disk cannot be started", &error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes that something has been committed.
    pub(super) fn committed(&self) {
        let was_dirty = std::mem::replace(&mut self.shared.state.lock().dirty, true);
        if !was_dirty {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, gather: Duration, mut sync: impl FnMut() -> io::Result<()>, path: &Path) {
        loop {
            let stopping = {
                let mut state = self.state.lock();
                self.changed.wait_while(&mut state, |state| !state.dirty && !state.stopping);
                if !state.dirty {
                    return;
                }
                self.changed.wait_while_for(&mut state, |state| !state.stopping, gather);
                state.dirty = false;
                state.stopping
            };
            let Err(error) = sync() else { continue };
            tracing::error!(path = %path.display(), %error, "what was written last could not be brought to the disk, or not yet committed; it is tried again");
            let mut state = self.state.lock();
            state.dirty = !stopping;
            self.changed.wait_while_for(&mut state, |state| !state.stopping, TRY_AGAIN);
        }
    }
}

/// Brings the write-ahead log of the file at `path` to the disk. SQLite finds the commits in what is there of it after a
/// crash of the machine, and drops the rest.
pub(super) fn sync_log(path: &Path) -> impl FnMut() -> io::Result<()> + Send + 'static {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let name = PathBuf::from(name);
    let mut log: Option<File> = None;
    move || {
        let log = match &mut log {
            Some(log) => log,
            none => {
                // It stays as long as the file is open.
                let opened = File::options().read(true).write(true).open(&name)?;
                sync_directory(&name)?;
                none.insert(opened)
            }
        };
        log.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn commits_go_to_the_disk_together_and_nothing_is_done_without() {
        let (done, synced) = mpsc::channel();
        let syncer = Syncer::start(Path::new("t.db"), GATHER, move || {
            let _ = done.send(());
            Ok(())
        })
        .unwrap();
        assert!(synced.recv_timeout(Duration::from_millis(50)).is_err(), "nothing was committed");
        let begun = Instant::now();
        for _ in 0..10_000 {
            syncer.committed();
        }
        synced.recv_timeout(SOON).unwrap();
        // At most one for each time of gathering, and one that had begun.
        let most = begun.elapsed().as_millis() / GATHER.as_millis() + 2;
        let more = synced.try_iter().count() as u128;
        assert!(more < most, "{} for 10,000 commits", 1 + more);
        while synced.recv_timeout(Duration::from_millis(100)).is_ok() {}
        syncer.committed();
        synced.recv_timeout(SOON).expect("one commit by itself");
        syncer.committed();
        drop(syncer);
        assert_eq!(synced.iter().count(), 1, "the last commit, before it has ended");
    }

    #[test]
    fn a_disk_that_refuses_is_asked_again() {
        let (done, synced) = mpsc::channel();
        let mut refusals = 1;
        let syncer = Syncer::start(Path::new("t.db"), GATHER, move || {
            let _ = done.send(refusals);
            refusals -= 1;
            if refusals >= 0 { Err(io::Error::other("on purpose")) } else { Ok(()) }
        })
        .unwrap();
        syncer.committed();
        assert_eq!(synced.recv_timeout(SOON), Ok(1));
        assert_eq!(synced.recv_timeout(SOON), Ok(0), "nobody committed anything since");
        drop(syncer);
        assert_eq!(synced.iter().count(), 0);
    }
}
