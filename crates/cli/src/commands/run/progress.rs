//! How a run gets on: a bar on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use taskiq_flow::core::id::RunId;
use taskiq_flow::core::run::{EventView, Fact};
use taskiq_flow::engine::{Engine, Missed, Watcher};
use tokio::task::JoinHandle;

use crate::output::note;

/// Shows the progress of a run until it ends.
pub(super) struct Progress(Option<JoinHandle<()>>);

/// The signals that steps wait for and nobody has sent, by the name of the step.
pub(super) type Awaited = HashMap<String, String>;

/// Where progress is shown.
enum Display {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    pub(super) async fn start(
        engine: &Engine,
        run_id: RunId,
        watcher: Watcher,
        awaited: Awaited,
        quiet: bool,
    ) -> Self {
        if quiet {
            return Self(None);
        }
        let steps = engine.run(run_id).await.map_or(0, |view| u64::from(view.total_steps));
        let display = if std::io::stderr().is_terminal() { Display::Bar(bar(steps)) } else { Display::Lines };
        Self(Some(tokio::spawn(show(display, run_id, watcher, awaited))))
    }

    pub(super) async fn finish(self) {
        if let Some(task) = self.0 {
            // It ends with the run's last event; a second is plenty to print what is left.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
    }
}

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

async fn show(display: Display, run_id: RunId, mut watcher: Watcher, awaited: Awaited) {
    loop {
        match watcher.recv().await {
            Ok(event) if event.run_id == Some(run_id) => {
                tell(&display, &event, &awaited);
                if event.event.fact.ends_run() {
                    break;
                }
            }
            Ok(_) | Err(Missed::Events(_)) => {}
            Err(Missed::All) => break,
        }
    }
    if let Display::Bar(bar) = display {
        bar.finish_and_clear();
    }
}

fn tell(display: &Display, event: &EventView, awaited: &Awaited) {
    let fact = &event.event.fact;
    let Some(step) = fact.step() else { return };
    // The items of a map are told by the map.
    let whole = step.step == step.task_name;
    let said = match fact {
        Fact::StepStart { attempt: 1, .. } => awaited.get(&*step.step).map(|signal| {
            format!("waits for signal `{signal}`; give it with --signal {signal}=JSON, or stop with Ctrl-C")
        }),
        Fact::StepStart { attempt, max_attempts, .. } => Some(format!("attempt {attempt} of {max_attempts}")),
        Fact::StepComplete { duration_ms, .. } if whole => Some(format!("completed in {duration_ms} ms")),
        Fact::StepError { error, .. } => Some(format!("failed: {error}")),
        Fact::StepRetry { wait_ms, .. } => Some(format!("again in {wait_ms} ms")),
        Fact::StepSkip { reason, .. } => Some(format!("skipped: {reason}")),
        Fact::StepCancel { reason, .. } => Some(format!("cancelled: {reason}")),
        _ => None,
    };
    let ended = whole
        && matches!(
            fact,
            Fact::StepComplete { .. }
                | Fact::StepSkip { .. }
                | Fact::StepCancel { .. }
                | Fact::StepError { will_retry: false, .. }
        );
    match display {
        Display::Bar(bar) => {
            if let Fact::StepStart { .. } = fact {
                bar.set_message(step.step.to_string());
            }
            if let (Some(said), false) = (&said, matches!(fact, Fact::StepComplete { .. })) {
                bar.println(format!("{}: {said}", step.step));
            }
            bar.inc(u64::from(ended));
        }
        Display::Lines => {
            if let Some(said) = said {
                note(format!("{}: {said}", step.step));
            }
        }
    }
}
