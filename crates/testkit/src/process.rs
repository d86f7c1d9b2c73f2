//! Processes that do not outlive their test.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::wait::until;

/// How a process ended and everything it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Exit {
    /// Both outputs, for messages and searches.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Whether a process of this id exists, a zombie included.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// A child whose outputs go to two files. It is killed when this is dropped; and, through a shell that waits for the
/// end of a pipe, when this process dies without dropping anything.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    warden: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its outputs are appended to `NAME.stdout` and `NAME.stderr` in `directory`.
    pub(crate) fn spawn(command: Command, name: &str, directory: &Path) -> Self {
        Self::spawn_with(command, name, directory, Stdio::null())
    }

    /// [`Process::spawn`] with something to read on standard input.
    pub(crate) fn spawn_with(mut command: Command, name: &str, directory: &Path, stdin: Stdio) -> Self {
        let [stdout, stderr] = ["stdout", "stderr"].map(|stream| directory.join(format!("{name}.{stream}")));
        let file = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        command.stdin(stdin).stdout(file(&stdout)).stderr(file(&stderr));
        // A group of its own: a browser is more than one process.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {:?}: {error} (scripts/install-test-deps.sh installs the neighbours)",
                command.get_program()
            )
        });
        let warden = Command::new("/bin/sh")
            .args(["-c", "read _; kill -KILL -- \"-$0\" 2>/dev/null", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start /bin/sh: {error}"));
        Self { name: name.to_owned(), child, warden, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, without those parts that are no UTF-8.
    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Its end, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<Exit> {
        let status = self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))?;
        Some(self.exit(status))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An error says that it has ended already, which whoever waits for it will see.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Its end, within `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Option<Exit> {
        until(limit, async || self.ended()).await
    }

    /// Asks it to end, and takes its end.
    pub(crate) async fn stop(&mut self, signal: Signal, limit: Duration) -> Exit {
        self.signal(signal);
        match self.wait(limit).await {
            Some(exit) => exit,
            None => {
                let (stdout, stderr) = (self.stdout(), self.stderr());
                panic!("{} still runs {limit:?} after {signal:?}\n{stdout}{stderr}", self.name)
            }
        }
    }

    fn exit(&self, status: ExitStatus) -> Exit {
        Exit { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The warden first: a warden without process would kill whoever has its id next. Errors say that it is over.
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        // As long as the child has not been waited for, nobody else can have its id or its group's.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_outputs_apart_and_ends_with_its_guard() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo out; echo err >&2; exec sleep 60"]);
        let process = Process::spawn(command, "sleeper", directory.path());
        let printed =
            until(Duration::from_secs(5), async || (!process.stderr().is_empty()).then_some(())).await;
        assert_eq!(
            (printed, process.stdout().as_str(), process.stderr().as_str()),
            (Some(()), "out\n", "err\n")
        );
        let pid = process.pid();
        assert!(is_alive(pid));
        drop(process);
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn tells_how_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 3"]);
        let mut process = Process::spawn(command, "three", directory.path());
        assert_eq!(process.wait(Duration::from_secs(5)).await.unwrap().code, Some(3));
    }
}
