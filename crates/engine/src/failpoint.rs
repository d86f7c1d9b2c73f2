//! Places at which a test has the process die, as `kill -9` would have it: without a word, in the middle of things.
//!
//! Only in a build with the feature `failpoints`; in any other these functions are empty. There the variable `FAILPOINT` names
//! a place and which passing of it is the last, such as `finish-after-write:3`. What must hold afterwards is tested in
//! `tests/crash`.

use taskiq_flow_core::run::Event;

#[cfg(feature = "failpoints")]
use self::armed::pass_armed;

/// Passes a place.
#[inline(always)]
pub(crate) fn pass(place: &'static str) {
    #[cfg(feature = "failpoints")]
    pass_armed(place);
    #[cfg(not(feature = "failpoints"))]
    let _ = place;
}

/// Passes the places before or after a write of these events, and of new runs.
#[inline(always)]
pub(crate) fn write<'a>(when: When, new_runs: usize, events: impl Iterator<Item = &'a Event>) {
    #[cfg(feature = "failpoints")]
    armed::pass_write(when, new_runs, events);
    #[cfg(not(feature = "failpoints"))]
    let _ = (when, new_runs, events);
}

/// On which side of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Before,
    After,
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};
    use taskiq_flow_core::run::{Event, Fact};

    use super::When;

    /// Every place there is.
    const PLACES: [&str; 25] = [
        "submit-before-write",
        "submit-after-write",
        "start-before-write",
        "start-after-write",
        "dispatch-before-publish",
        "dispatch-after-publish",
        "instant-after-call",
        "finish-before-write",
        "finish-after-write",
        "retry-before-write",
        "retry-after-write",
        "cancel-before-write",
        "cancel-after-write",
        "signal-before-write",
        "signal-after-write",
        "end-before-write",
        "end-after-write",
        "inner-before-wait",
        "firing-before-note",
        "firing-after-note",
        "claim-before-rebuild",
        "claim-after-rebuild",
        "prune",
        "delivery-before-note",
        "delivery-after-note",
    ];

    /// The place at which the process dies, and how many passings are left.
    struct Armed {
        place: &'static str,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass_armed(place: &'static str) {
        let Some(armed) = ARMED.get_or_init(read) else { return };
        if armed.place == place && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            die();
        }
    }

    /// Which places they are follows from what is written.
    pub(super) fn pass_write<'a>(when: When, new_runs: usize, events: impl Iterator<Item = &'a Event>) {
        let mut seen = [false; 6];
        for event in events {
            let place = match &event.fact {
                Fact::PipelineStart { .. } => 0,
                Fact::StepComplete { .. } | Fact::StepError { .. } => 1,
                Fact::StepStart { attempt: 2.., .. } => 2,
                Fact::PipelineCancel { .. } => 3,
                Fact::Signal { .. } => 4,
                Fact::PipelineComplete { .. } | Fact::PipelineError { .. } => 5,
                _ => continue,
            };
            seen[place] = true;
        }
        let names: [[&'static str; 2]; 6] = [
            ["start-before-write", "start-after-write"],
            ["finish-before-write", "finish-after-write"],
            ["retry-before-write", "retry-after-write"],
            ["cancel-before-write", "cancel-after-write"],
            ["signal-before-write", "signal-after-write"],
            ["end-before-write", "end-after-write"],
        ];
        let side = match when {
            When::Before => 0,
            When::After => 1,
        };
        if new_runs > 0 {
            pass_armed(["submit-before-write", "submit-after-write"][side]);
        }
        names.iter().zip(seen).filter(|(_, seen)| *seen).for_each(|(names, _)| pass_armed(names[side]));
    }

    fn read() -> Option<Armed> {
        let text = std::env::var("FAILPOINT").ok()?;
        let known = text.split_once(':').and_then(|(name, count)| {
            let place = PLACES.into_iter().find(|place| *place == name)?;
            Some(Armed { place, left: AtomicU32::new(count.parse().ok()?) })
        });
        if known.is_none() {
            // A test that waits for a place that is none would wait in vain.
            tracing::error!("FAILPOINT={text}: write it as PLACE:COUNT, with one of {PLACES:?}");
            std::process::abort();
        }
        known
    }

    fn die() -> ! {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal may take a moment; nothing is to happen in it.
        loop {
            std::thread::park();
        }
    }
}
