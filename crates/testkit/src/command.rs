//! The program as a command.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Exit, Process};

/// Runs the program in a directory of its own, with an environment of its own.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    directory: TempDir,
    environment: Vec<(String, String)>,
    limit: Duration,
}

/// A program that has been started and not been waited for.
#[derive(Debug)]
pub struct Running {
    process: Process,
    _outputs: TempDir,
}

impl Cli {
    /// Runs `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            directory: directory(),
            environment: Vec::new(),
            limit: Duration::from_secs(30),
        }
    }

    /// Sets an environment variable; all that are not set here, but for PATH and the like, are empty.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Gives each command so long instead of 30 seconds.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The directory that commands run in.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into [`Cli::dir`]; gives its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        write(self.dir(), name, text)
    }

    /// Runs the program to its end, with nothing on standard input.
    ///
    /// # Panics
    /// When it has not ended in time.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Exit {
        self.run_with_input(arguments, "").await
    }

    /// Runs the program to its end, with a text on standard input.
    ///
    /// # Panics
    /// When it has not ended in time.
    pub async fn run_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Exit {
        let mut command = self.command(arguments);
        let what = format!("{command:?}");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let outputs = directory();
        let input = File::open(write(outputs.path(), "stdin", input));
        let input = input.unwrap_or_else(|error| panic!("standard input: {error}"));
        let mut process = Process::spawn_with(command, "command", outputs.path(), input.into());
        match process.wait(self.limit).await {
            Some(exit) => exit,
            None => panic!("{what} still runs after {:?}\n{}", self.limit, process.stderr()),
        }
    }

    /// Starts the program and lets it run; it is killed when what this gives is dropped.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        let mut command = self.command(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let outputs = directory();
        Running { process: Process::spawn(command, "command", outputs.path()), _outputs: outputs }
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.dir());
        clean(&mut command, self.dir());
        command
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it has said besides.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it has not ended after `limit`.
    pub async fn stop(mut self, limit: Duration) -> Exit {
        self.process.stop(Signal::TERM, limit).await
    }
}

/// A new directory below the system's one for temporary files.
pub(crate) fn directory() -> TempDir {
    let made = tempfile::Builder::new().prefix("taskiq-flow-test-").tempdir();
    made.unwrap_or_else(|error| panic!("no temporary directory: {error}"))
}

pub(crate) fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(&path, text))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// Leaves nothing of the caller's environment but what any program needs.
pub(crate) fn clean(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).env("LANG", "C.UTF-8").env("RUST_BACKTRACE", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}
