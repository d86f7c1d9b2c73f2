//! What is known by experience of how long something takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long something usually takes: a hint by which it is decided where it is carried out next, and no part of any run.
///
/// Each new measurement counts an eighth: one that took long is remembered for some fifty that did not. Of the first two the
/// shorter one is taken: what is done for the first time often takes longer. What is known holds for one edition of the thing;
/// of another one nothing is known yet.
#[derive(Debug)]
pub struct Pace(AtomicU64);

/// Nothing was measured.
const UNKNOWN: u64 = u64::MAX;
/// In such units it is kept, as the lower half but for its highest bit; the upper half is the edition.
const UNIT_NANOS: u128 = 64;
/// Set when it was measured more than once.
const OFTEN: u32 = 1 << 31;
/// What usually takes no longer is quick.
pub const QUICK: Duration = Duration::from_micros(200);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl Pace {
    /// Notes how long it took. Whether that is the first that is known of this edition.
    pub fn note(&self, took: Duration, edition: u32) -> bool {
        let took = u32::try_from(took.as_nanos() / UNIT_NANOS).unwrap_or(u32::MAX).min(OFTEN - 2);
        let known = self.known(edition);
        let now = match known {
            None => took,
            Some(once) if once & OFTEN == 0 => once.min(took) | OFTEN,
            Some(usual) => {
                let usual = usual & !OFTEN;
                (usual - usual / 8 + took / 8) | OFTEN
            }
        };
        if known != Some(now) {
            self.0.store(u64::from(edition) << 32 | u64::from(now), Ordering::Relaxed);
        }
        known.is_none()
    }

    /// Whether it usually takes 200 µs at most; none: nothing is known.
    pub fn is_quick(&self, edition: u32) -> Option<bool> {
        self.is_within(QUICK, edition)
    }

    /// Whether it usually takes no longer than that; none: nothing is known.
    pub fn is_within(&self, limit: Duration, edition: u32) -> Option<bool> {
        self.known(edition).map(|known| u128::from(known & !OFTEN) * UNIT_NANOS <= limit.as_nanos())
    }

    fn known(&self, edition: u32) -> Option<u32> {
        let known = self.0.load(Ordering::Relaxed);
        // The lower half of what was measured is never all ones.
        (known != UNKNOWN && known >> 32 == u64::from(edition)).then_some(known as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: Duration = Duration::from_micros(10);

    #[test]
    fn the_first_time_may_take_longer() {
        let pace = Pace::default();
        pace.note(Duration::from_millis(5), 0);
        assert_eq!(pace.is_quick(0), Some(false), "nothing else is known");
        pace.note(Duration::from_micros(5), 0);
        assert_eq!(pace.is_within(INSTANT, 0), Some(true));
        pace.note(Duration::from_millis(5), 0);
        assert_eq!(pace.is_quick(0), Some(false), "and once only");
    }

    #[test]
    fn a_pace_is_that_of_the_last_times() {
        let pace = Pace::default();
        let known = |edition| (pace.is_quick(edition), pace.is_within(INSTANT, edition));
        assert_eq!(known(u32::MAX), (None, None), "nothing is known");
        assert!(pace.note(Duration::from_micros(150), 0));
        (0..100).for_each(|_| assert!(!pace.note(Duration::from_micros(150), 0)));
        assert_eq!(known(0), (Some(true), Some(false)));
        pace.note(Duration::from_millis(20), 0);
        assert_eq!(known(0), (Some(false), Some(false)));
        (0..60).for_each(|_| _ = pace.note(Duration::from_micros(5), 0));
        assert_eq!(known(0), (Some(true), Some(true)));
        (0..60).for_each(|_| _ = pace.note(Duration::from_micros(12), 0));
        assert_eq!(known(0), (Some(true), Some(false)), "it rises by little, too");
        pace.note(Duration::MAX, 0);
        assert_eq!(known(0), (Some(false), Some(false)));
        assert_eq!(known(1), (None, None), "another edition");
        assert!(pace.note(Duration::ZERO, u32::MAX));
        assert_eq!(known(u32::MAX), (Some(true), Some(true)));
        assert!(pace.note(Duration::MAX, 1) && !pace.note(Duration::MAX, 1));
    }
}
