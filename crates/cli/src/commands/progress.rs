//! How a run gets on, told by its events: a bar on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use taskiq_flow::core::run::Fact;
use taskiq_flow::security::audit::escape_controls;

use crate::output::note;

/// Lines that tell of single items come no closer than this.
const ITEMS_EVERY: Duration = Duration::from_secs(5);

/// Where progress is shown.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines(Items),
    Nowhere,
}

/// How many items of each step have ended, told now and then: a long list would otherwise say nothing until its end.
pub(crate) struct Items {
    /// By step: items that have ended, and how many there are.
    ended: HashMap<String, (u32, u32)>,
    /// When a line was last written.
    told: Instant,
}

impl Progress {
    /// Of a run of so many steps.
    pub(crate) fn new(steps: u64, quiet: bool) -> Self {
        match quiet {
            true => Self::Nowhere,
            false if std::io::stderr().is_terminal() => Self::Bar(bar(steps)),
            false => Self::Lines(Items { ended: HashMap::new(), told: Instant::now() }),
        }
    }

    /// Tells an event. `hint` is what to do about a step that has started and waits for somebody.
    pub(crate) fn tell(&mut self, fact: &Fact, hint: Option<&str>) {
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
                bar.inc(u64::from(whole && ends(fact)));
            }
            Self::Lines(items) => {
                let counted = items.count(fact, said.is_some(), Instant::now());
                said.or(counted).iter().for_each(note);
            }
            Self::Nowhere => {}
        }
    }

    /// Says something that is no event, without tearing the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(_) | Self::Nowhere => note(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Items {
    /// Counts what an event says of items, and tells it when nothing was told for a while. `said`: the event is told anyway.
    fn count(&mut self, fact: &Fact, said: bool, now: Instant) -> Option<String> {
        let step = fact.step()?;
        if said {
            self.told = now;
        }
        if let Fact::StepStart { items: Some(items), .. } = fact {
            self.ended.insert(step.step.to_string(), (0, *items));
        }
        if step.step == step.task_name || !ends(fact) {
            return None;
        }
        let (ended, of) = self.ended.get_mut(&*step.task_name)?;
        *ended += 1;
        if said || now.duration_since(self.told) < ITEMS_EVERY {
            return None;
        }
        self.told = now;
        Some(format!("{}: {ended} of {of} items have ended", escape_controls(&step.task_name)))
    }
}

/// Whether an event ends a step or an item.
fn ends(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::StepComplete { .. }
            | Fact::StepSkip { .. }
            | Fact::StepCancel { .. }
            | Fact::StepError { will_retry: false, .. }
    )
}

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use taskiq_flow::core::run::StepRef;

    use super::*;

    #[test]
    fn a_long_list_is_told_of_now_and_then() {
        let begun = Instant::now();
        let mut items = Items { ended: HashMap::new(), told: begun };
        let step = |name: &str| StepRef::new(0, 0, name, "ys");
        let start = Fact::StepStart {
            step: step("ys"),
            attempt: 1,
            max_attempts: 1,
            wait_ms: 0,
            items: Some(900),
            cache: None,
            chunk: None,
        };
        assert_eq!(items.count(&start, false, begun), None);
        let done = |place: u32| Fact::StepComplete {
            step: step(&format!("ys[{place}]")),
            attempt: 1,
            duration_ms: 0,
            result: Default::default(),
            cached: false,
        };
        let told: Vec<_> = (0..900)
            .filter_map(|place| {
                let now = begun + Duration::from_millis(10) * place;
                items.count(&done(place), false, now).map(|told| (now - begun, told))
            })
            .collect();
        assert_eq!(told, [(ITEMS_EVERY, "ys: 501 of 900 items have ended".to_owned())]);
        // What is told anyway counts, and puts the next line off.
        let late = begun + ITEMS_EVERY * 3;
        assert_eq!(items.count(&done(900), true, late), None);
        assert_eq!(items.count(&done(901), false, late + ITEMS_EVERY / 2), None);
    }
}
