//! What came of a run.

use std::process::ExitCode;

use serde_json::Value;
use taskiq_flow::security::audit::escape_controls;

use crate::output::{FAILED, json as print_json, note};

/// Prints the result of a run that has ended, or all of the run, and why it did not complete; gives the exit code that
/// says how it went.
pub(crate) fn conclude(run: &Value, whole: bool) -> ExitCode {
    let status = run["status"].as_str().unwrap_or_default();
    let completed = status == "completed";
    if whole {
        print_json(run);
    } else if completed {
        print_json(&run["result"]);
    }
    if completed {
        return ExitCode::SUCCESS;
    }
    let status = escape_controls(status);
    match run["error"]["message"].as_str() {
        Some(message) => {
            let step = run["error"]["step"].as_str();
            let step = step.map_or_else(String::new, |step| format!(" at `{}`", escape_controls(step)));
            let message = message.lines().map(escape_controls).collect::<Vec<_>>().join("\n");
            note(format!("error: the run {status}{step}: {message}"));
        }
        None => note(format!("error: the run was {status}")),
    }
    ExitCode::from(FAILED)
}
