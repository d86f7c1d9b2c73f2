//! Processes.
//!
//! A process is started without a shell, in a process group of its own, with a short list of environment
//! variables. It reads its inputs as one JSON object and prints its value as JSON. When the attempt is stopped the
//! whole group is asked to end, and killed a second later.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use taskiq_flow_core::definition::CommandSpec;
use taskiq_flow_core::run::{Failure, Outcome, Work};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

use super::Execution;

/// The variables of the server's environment that every process is given. None of them carries a secret.
const PASSED_ON: [&str; 8] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];
/// The server's own variables, which hold its secrets.
const OWN_PREFIX: &str = "TASKIQ_FLOW_";
/// How long a group has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of standard error that an error message shows.
const SHOWN: usize = 500;

/// Starts processes.
#[derive(Debug)]
pub(super) struct CommandExecutor {
    max_output: usize,
    max_log: usize,
    tasks: TaskTracker,
}

/// A process that has not ended. Dropping it stops its group.
struct Running {
    child: Option<Child>,
    group: Option<Pid>,
    tasks: TaskTracker,
}

impl CommandExecutor {
    pub(super) fn new(max_output: usize, max_log: usize) -> Self {
        Self { max_output, max_log, tasks: TaskTracker::new() }
    }

    pub(super) fn track(&mut self, tasks: TaskTracker) {
        self.tasks = tasks;
    }

    pub(super) async fn execute(&self, spec: &CommandSpec, work: &Work) -> Execution {
        let mut running = match self.start(spec, work) {
            Ok(running) => running,
            Err(failure) => return Execution::failed(failure),
        };
        let Some(child) = running.child.as_mut() else {
            return Execution::failed(Failure::error("the process was not started").code("command:start"));
        };
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let input = Value::Object(work.inputs.to_json_object()).to_string();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A process need not read its inputs, and may have closed its end.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let group = running.group;
        let wait = async {
            let status = child.wait().await;
            // What the process left running in its group would keep the pipes open.
            signal(group, Signal::KILL);
            status
        };
        let ((), status, output, log) =
            tokio::join!(feed, wait, head(stdout, self.max_output), tail(stderr, self.max_log));
        running.child = None;
        let log = String::from_utf8_lossy(&log).into_owned();
        let outcome = match status {
            Ok(status) => outcome(status, output, &log),
            Err(error) => Err(Failure::error(format!("the process was lost: {error}")).code("command:lost")),
        };
        let outcome = match outcome {
            Ok(value) => Outcome::Completed(std::sync::Arc::new(value)),
            Err(failure) => Outcome::Failed(failure),
        };
        Execution { outcome, log: Some(log) }
    }

    fn start(&self, spec: &CommandSpec, work: &Work) -> Result<Running, Failure> {
        let Some((program, arguments)) = spec.argv.split_first() else {
            return Err(Failure::permanent("the command is empty").code("command:start"));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &spec.pass_env {
            if name.starts_with(OWN_PREFIX) {
                let message =
                    format!("`pass_env: {name}` is refused: it could hold the server's own secrets");
                return Err(Failure::permanent(message).code("command:start"));
            }
        }
        let passed = PASSED_ON.into_iter().chain(spec.pass_env.iter().map(String::as_str));
        command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&spec.env);
        command.envs([
            ("TASKIQ_FLOW_PIPELINE_ID", work.pipeline_id.to_string()),
            ("TASKIQ_FLOW_RUN_ID", work.run_id.to_string()),
            ("TASKIQ_FLOW_STEP", work.step.to_string()),
            ("TASKIQ_FLOW_ATTEMPT", work.attempt.to_string()),
            ("TASKIQ_FLOW_TASK_ID", work.task_id().to_string()),
        ]);
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
        let child = command.spawn().map_err(|error| not_started(spec, program, &error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Running { child: Some(child), group, tasks: self.tasks.clone() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let group = self.group;
        signal(group, Signal::TERM);
        if tokio::runtime::Handle::try_current().is_err() {
            signal(group, Signal::KILL);
            return;
        }
        // The child is waited for here and nowhere else, so its id cannot be given to another process meanwhile.
        self.tasks.spawn(async move {
            let _ = tokio::time::timeout(GRACE, child.wait()).await;
            signal(group, Signal::KILL);
            let _ = child.wait().await;
        });
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The only error that can come is that the group has ended.
        let _ = kill_process_group(group, signal);
    }
}

fn not_started(spec: &CommandSpec, program: &str, error: &std::io::Error) -> Failure {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let failure = match &spec.cwd {
        Some(cwd) if missing && !cwd.is_dir() => {
            Failure::permanent(format!("the working directory `{}` does not exist", cwd.display()))
        }
        _ if missing => Failure::permanent(format!("there is no program `{program}` on the server's PATH")),
        _ => Failure::error(format!("`{program}` could not be started: {error}")),
    };
    failure.code("command:start")
}

/// The value of a process that has ended.
fn outcome(status: ExitStatus, output: Result<Vec<u8>, Failure>, log: &str) -> Result<Value, Failure> {
    if !status.success() {
        let (mut message, code) = match status.code() {
            Some(code) => (format!("exited with status {code}"), format!("exit:{code}")),
            None => {
                (format!("was ended: {status}"), format!("signal:{}", status.signal().unwrap_or_default()))
            }
        };
        if let Some(last) = log.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            message.push_str(": ");
            message.extend(last.chars().take(SHOWN));
        }
        return Err(Failure::error(message).code(code));
    }
    let output = output?;
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output).map_err(|error| {
        let start: String = String::from_utf8_lossy(&output).chars().take(60).collect();
        Failure::permanent(format!(
            "what it printed on standard output is not one JSON value: {error}; it starts with {start:?}. Print only \
             the value there, and everything else on standard error"
        ))
        .code("output")
    })
}

/// Reads everything, and fails when there is more than `limit`.
async fn head(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(bytes) };
    let mut within = (&mut pipe).take(limit as u64 + 1);
    let read = within.read_to_end(&mut bytes).await;
    read.map_err(|error| Failure::error(format!("its output could not be read: {error}")).code("output"))?;
    if bytes.len() > limit {
        // The rest is thrown away, so that the process is not held up for ever.
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        let message = format!("printed more than {limit} bytes on standard output");
        return Err(Failure::permanent(message).code("output"));
    }
    Ok(bytes)
}

/// Reads everything and keeps the last `limit` bytes.
async fn tail(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut chunk = vec![0; 8192];
    while let Ok(count) = pipe.read(&mut chunk).await
        && count > 0
    {
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > 2 * limit {
            kept.drain(..kept.len() - limit);
        }
    }
    let surplus = kept.len().saturating_sub(limit);
    kept.drain(..surplus);
    kept
}
