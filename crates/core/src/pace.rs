//! What is known by experience of how long something takes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long something usually takes: a hint by which it is decided where it is carried out next, and no part of any run.
///
/// Microseconds, of which each new measurement counts an eighth: one that took long is remembered for some fifty that
/// did not.
#[derive(Debug)]
pub struct Pace(AtomicU32);

/// Nothing was measured.
const UNKNOWN: u32 = u32::MAX;
/// What usually takes no longer is quick.
const QUICK: Duration = Duration::from_micros(200);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(UNKNOWN))
    }
}

impl Pace {
    /// Notes how long it took. Whether that is the first that is known.
    pub fn note(&self, took: Duration) -> bool {
        let took = u32::try_from(took.as_micros()).unwrap_or(UNKNOWN).min(UNKNOWN - 1);
        let usual = self.0.load(Ordering::Relaxed);
        let now = if usual == UNKNOWN { took } else { usual - usual / 8 + took / 8 };
        if now != usual {
            self.0.store(now, Ordering::Relaxed);
        }
        usual == UNKNOWN
    }

    /// Whether it usually takes 200 µs at most; none: nothing is known.
    pub fn is_quick(&self) -> Option<bool> {
        self.is_within(QUICK)
    }

    /// Whether it usually takes no longer than that; none: nothing is known.
    pub fn is_within(&self, limit: Duration) -> Option<bool> {
        let usual = self.0.load(Ordering::Relaxed);
        (usual != UNKNOWN).then(|| Duration::from_micros(usual.into()) <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: Duration = Duration::from_micros(10);

    #[test]
    fn a_pace_is_that_of_the_last_times() {
        let pace = Pace::default();
        assert_eq!((pace.is_quick(), pace.is_within(INSTANT)), (None, None), "nothing is known");
        assert!(pace.note(Duration::from_micros(150)));
        (0..100).for_each(|_| assert!(!pace.note(Duration::from_micros(150))));
        assert_eq!((pace.is_quick(), pace.is_within(INSTANT)), (Some(true), Some(false)));
        pace.note(Duration::from_millis(20));
        assert_eq!(pace.is_quick(), Some(false));
        (0..60).for_each(|_| _ = pace.note(Duration::from_micros(5)));
        assert_eq!((pace.is_quick(), pace.is_within(INSTANT)), (Some(true), Some(true)));
        pace.note(Duration::MAX);
        assert_eq!((pace.is_quick(), pace.is_within(INSTANT)), (Some(false), Some(false)));
    }
}
