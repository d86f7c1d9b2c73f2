//! The generic cell rate algorithm: one time stamp a bucket, a burst and then a smooth refill.
//!
//! Source: ITU-T I.371 (annex A), in its "virtual scheduling" form; the same as redis-cell's. The stamp is the
//! theoretical arrival time: when the bucket is full again.

use std::time::Duration;

use super::limit::{Limit, Quota};

/// What a limit says to one request: the tightest of the limit's quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Requests a full bucket allows at once.
    pub limit: u64,
    /// Requests the bucket allows now, this one counted.
    pub remaining: u64,
    /// Time until the bucket is full again.
    pub reset_after: Duration,
    /// Time until the bucket allows one more than none: zero while `remaining` is not.
    pub next_after: Duration,
    /// When refused: how long to wait before a request can succeed.
    pub retry_after: Option<Duration>,
    /// Period of the quota that decided.
    pub window: Duration,
}

impl Decision {
    /// The tighter of two decisions about the same request: a refusal before a pass, the longer wait before
    /// the shorter, the fewer remaining before the more.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let rank = |d: &Self| {
            (d.allowed, std::cmp::Reverse(d.retry_after), d.remaining, std::cmp::Reverse(d.reset_after))
        };
        if rank(&other) < rank(&self) { other } else { self }
    }

    /// Whole seconds for the `Retry-After` header, at least one; `None` when the request was allowed.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| whole_seconds(wait).max(1))
    }

    /// A refusal that no bucket made: the storage is away and the operator chose to refuse.
    pub(crate) fn refused(limit: &Limit, wait: Duration) -> Self {
        let tightest = limit.quotas().min_by_key(Quota::burst);
        Self {
            allowed: false,
            limit: tightest.map_or(0, |q| q.burst()),
            remaining: 0,
            reset_after: wait,
            next_after: wait,
            retry_after: Some(wait),
            window: tightest.map_or(wait, |q| q.period()),
        }
    }
}

/// Asks one bucket for one request at `now_ns`, the bucket's stamp being `tat_ns` (zero: never used). Returns
/// the stamp to keep and the decision; a refusal keeps the stamp, so that asking again costs nothing.
///
/// A stamp further ahead than a full bucket reaches (a clock that stepped back) counts as an empty bucket:
/// nobody waits longer than one period.
pub fn gcra(now_ns: u64, tat_ns: u64, quota: Quota) -> (u64, Decision) {
    let tolerance = quota.tolerance_ns();
    let tat = tat_ns.clamp(now_ns, now_ns.saturating_add(tolerance));
    let taken = tat.saturating_add(quota.emission_ns());
    let allowed = taken - now_ns <= tolerance;
    let kept = if allowed { taken } else { tat };
    (kept, Cell::exact(quota).describe(kept - now_ns, allowed))
}

/// What [`gcra`] would decide, without taking anything: `remaining` is what there is before the request.
pub fn gcra_peek(now_ns: u64, tat_ns: u64, quota: Quota) -> Decision {
    let tat = tat_ns.clamp(now_ns, now_ns.saturating_add(quota.tolerance_ns()));
    let cell = Cell::exact(quota);
    cell.describe(tat - now_ns, cell.has_room(tat - now_ns))
}

/// A quota in nanoseconds, possibly rounded to what a storage can count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    emission_ns: u64,
    tolerance_ns: u64,
    quota: Quota,
}

impl Cell {
    pub(crate) fn exact(quota: Quota) -> Self {
        Self { emission_ns: quota.emission_ns(), tolerance_ns: quota.tolerance_ns(), quota }
    }

    /// Rounded up to whole microseconds.
    #[cfg(feature = "redis")]
    pub(crate) fn in_microseconds(quota: Quota) -> Self {
        let emission_ns = quota.emission_ns().div_ceil(1000).saturating_mul(1000);
        Self { emission_ns, tolerance_ns: emission_ns.saturating_mul(quota.burst()), quota }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn emission_ns(&self) -> u64 {
        self.emission_ns
    }

    #[cfg(feature = "redis")]
    pub(crate) fn tolerance_ns(&self) -> u64 {
        self.tolerance_ns
    }

    /// Whether a bucket `ahead_ns` before its full time has one request left.
    pub(crate) fn has_room(&self, ahead_ns: u64) -> bool {
        ahead_ns.saturating_add(self.emission_ns) <= self.tolerance_ns
    }

    pub(crate) fn describe(&self, ahead_ns: u64, allowed: bool) -> Decision {
        let emission = self.emission_ns.max(1);
        let room = self.tolerance_ns.saturating_sub(ahead_ns);
        let next_after = Duration::from_nanos(emission.saturating_sub(room));
        Decision {
            allowed,
            limit: self.quota.burst(),
            remaining: room / emission,
            reset_after: Duration::from_nanos(ahead_ns),
            next_after,
            retry_after: (!allowed).then_some(next_after),
            window: self.quota.period(),
        }
    }
}

/// Rounded up, because a client that comes back a fraction too early is refused again.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(burst: u64, period_ns: u64) -> Quota {
        Quota::new(burst, Duration::from_nanos(period_ns)).unwrap()
    }

    #[test]
    fn gives_the_burst_then_one_per_emission() {
        let q = quota(10, 60_000_000_000);
        let mut tat = 0;
        for left in (0..10).rev() {
            let (kept, d) = gcra(5, tat, q);
            assert!(d.allowed);
            assert_eq!((d.remaining, d.retry_after), (left, None));
            tat = kept;
        }
        let (kept, d) = gcra(5, tat, q);
        assert_eq!(kept, tat);
        assert_eq!((d.allowed, d.remaining, d.limit), (false, 0, 10));
        assert_eq!(d.retry_after, Some(Duration::from_secs(6)));
        assert_eq!(d.reset_after, Duration::from_secs(60));
        assert!(!gcra(5 + 5_999_999_999, tat, q).1.allowed);
        let (tat, d) = gcra(5 + 6_000_000_000, tat, q);
        assert!(d.allowed);
        assert!(!gcra(5 + 6_000_000_000, tat, q).1.allowed);
    }

    #[test]
    fn a_clock_that_steps_back_costs_at_most_one_period() {
        let q = quota(2, 1_000_000_000);
        let (_, d) = gcra(0, u64::MAX, q);
        assert!(!d.allowed);
        assert!(d.reset_after <= Duration::from_secs(1));
    }

    #[test]
    fn the_tighter_decision_wins_whichever_comes_first() {
        let q = quota(5, 1_000_000_000);
        let (_, fresh) = gcra(0, 0, q);
        let (_, denied) = gcra(0, q.tolerance_ns(), q);
        assert_eq!(fresh.tighter(denied), denied);
        assert_eq!(denied.tighter(fresh), denied);
        let (_, later) = gcra(0, 200_000_000, q);
        assert_eq!(fresh.tighter(later), later);
        let slow = gcra(0, u64::MAX, quota(1, 9_000_000_000)).1;
        assert_eq!(denied.tighter(slow), slow);
        assert_eq!(slow.tighter(denied), slow);
    }

    /// The same bucket as a tank: it holds `burst` whole requests and fills by one nanosecond a nanosecond,
    /// a request costing `emission` of them.
    struct Tank {
        level: u64,
        at: u64,
        quota: Quota,
    }

    impl Tank {
        fn take(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.at)).min(self.quota.tolerance_ns());
            self.at = now;
            let ok = self.level >= self.quota.emission_ns();
            if ok {
                self.level -= self.quota.emission_ns();
            }
            ok
        }
    }

    proptest! {
        #[test]
        fn equals_the_tank(
            burst in 1u64..50,
            period in 50u64..10_000_000,
            waits in proptest::collection::vec(0u64..400_000, 1..200),
        ) {
            let q = quota(burst, period);
            let mut tank = Tank { level: q.tolerance_ns(), at: 1, quota: q };
            let (mut now, mut tat) = (1, 0);
            for wait in waits {
                now += wait;
                let peeked = gcra_peek(now, tat, q);
                let (kept, d) = gcra(now, tat, q);
                tat = kept;
                let expected = tank.take(now);
                prop_assert_eq!(d.allowed, expected);
                prop_assert_eq!(peeked.allowed, expected);
                prop_assert_eq!(d.remaining, tank.level / q.emission_ns());
                prop_assert_eq!(d.reset_after.as_nanos() as u64, q.tolerance_ns() - tank.level);
                prop_assert_eq!(d.next_after.is_zero(), d.remaining > 0);
                if let Some(wait) = d.retry_after {
                    let at = now + wait.as_nanos() as u64;
                    prop_assert!(gcra(at, tat, q).1.allowed);
                    prop_assert!(!gcra(at - 1, tat, q).1.allowed);
                }
            }
        }

        #[test]
        fn never_more_than_burst_plus_refill_in_any_stretch(
            burst in 1u64..20,
            period in 20u64..1_000_000,
            waits in proptest::collection::vec(0u64..50_000, 1..100),
        ) {
            let q = quota(burst, period);
            let (mut now, mut tat, mut passed) = (0, 0, Vec::new());
            for wait in waits {
                now += wait;
                let (kept, d) = gcra(now, tat, q);
                tat = kept;
                if d.allowed {
                    passed.push(now);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    prop_assert!((j - i + 1) as u64 <= burst + (to - from) / q.emission_ns());
                }
            }
        }

        #[test]
        fn no_stamp_overflows(now: u64, tat: u64, burst in 1u64..1_000_000) {
            let q = quota(burst, 60_000_000_000);
            gcra(now.min(u64::MAX / 2), tat, q);
            gcra_peek(now.min(u64::MAX / 2), tat, q);
        }
    }
}
