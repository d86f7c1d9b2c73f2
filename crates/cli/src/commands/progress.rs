//! How a run gets on, told by its events: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use taskiq_flow::core::run::Fact;
use taskiq_flow::security::audit::escape_controls;

use crate::output::note;

/// Where progress is shown.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines,
    Nowhere,
}

impl Progress {
    /// Of a run of so many steps.
    pub(crate) fn new(steps: u64, quiet: bool) -> Self {
        match quiet {
            true => Self::Nowhere,
            false if std::io::stderr().is_terminal() => Self::Bar(bar(steps)),
            false => Self::Lines,
        }
    }

    /// Tells an event. `hint` is what to do about a step that has started and waits for somebody.
    pub(crate) fn tell(&self, fact: &Fact, hint: Option<&str>) {
        let Some(step) = fact.step() else { return };
        // The items of a map are told by the map.
        let whole = step.step == step.task_name;
        let said = match fact {
            Fact::StepStart { attempt: 1, .. } => hint.map(str::to_owned),
            Fact::StepStart { attempt, max_attempts, .. } => {
                Some(format!("attempt {attempt} of {max_attempts}"))
            }
            Fact::StepComplete { cached: true, .. } if whole => Some("taken over".to_owned()),
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
        // What steps say may come from anywhere.
        let said = said.map(|said| {
            let text = format!("{}: {said}", step.step);
            text.lines().map(escape_controls).collect::<Vec<_>>().join("\n")
        });
        match self {
            Self::Bar(bar) => {
                if let Fact::StepStart { .. } = fact {
                    bar.set_message(escape_controls(&step.step).into_owned());
                }
                if let (Some(said), false) = (said, matches!(fact, Fact::StepComplete { .. })) {
                    bar.println(said);
                }
                bar.inc(u64::from(ended));
            }
            Self::Lines => {
                if let Some(said) = said {
                    note(said);
                }
            }
            Self::Nowhere => {}
        }
    }

    /// Says something that is no event, without tearing the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines | Self::Nowhere => note(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
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
