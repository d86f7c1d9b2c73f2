//! When a failed attempt is repeated.

use std::num::NonZeroU32;
use std::time::Duration;

use super::ErrorRule;

/// How often and how soon a failed attempt is repeated. Plain data: it is stored, replayed and shown.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: NonZeroU32,
    /// The wait before the second attempt.
    pub delay: Duration,
    /// Each further wait is this many times the one before.
    pub backoff: f64,
    /// Whether a wait is drawn from between half of itself and itself, so that many failures do not return at once.
    pub jitter: bool,
    /// No wait is longer.
    pub max_delay: Duration,
    /// No attempt starts later than this after the first one started. An attempt under way is not cut off.
    pub max_time: Option<Duration>,
    /// Only these failures are repeated, and they also where they are permanent by themselves; none: all that may pass.
    pub retry_on: Option<Vec<ErrorRule>>,
    /// These failures are never repeated.
    pub not_on: Vec<ErrorRule>,
}

impl Default for RetryPolicy {
    /// One attempt. With more: after 1 s, doubling, jittered, at most 60 s.
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN,
            delay: Duration::from_secs(1),
            backoff: 2.0,
            jitter: true,
            max_delay: Duration::from_secs(60),
            max_time: None,
            retry_on: None,
            not_on: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The wait after attempt `failed` (1 is the first): `delay * backoff^(failed - 1)`, at most `max_delay`, and
    /// with jitter scaled into `[1/2, 1]` by `random`, which is in `[0, 1)` ("equal jitter").
    pub fn wait_after(&self, failed: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        let longest = self.max_delay.as_secs_f64();
        let capped = if seconds.is_finite() { seconds.min(longest) } else { longest };
        let scale = if self.jitter { 0.5 + random.clamp(0.0, 1.0) / 2.0 } else { 1.0 };
        Duration::from_secs_f64((capped * scale).max(0.0))
    }

    /// Whether a failure with that code and message is one to repeat; `permanent` where every further attempt would
    /// fail the same way, as far as whoever carried it out can tell.
    pub fn repeats(&self, code: &str, message: &str, permanent: bool) -> bool {
        let named = |rules: &[ErrorRule]| rules.iter().any(|rule| rule.matches(code, message));
        !named(&self.not_on) && self.retry_on.as_deref().map_or(!permanent, named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_jitter_halves_at_most() {
        let policy = RetryPolicy { jitter: false, max_delay: Duration::from_secs(5), ..Default::default() };
        let waits: Vec<_> = (1..=4).map(|n| policy.wait_after(n, 0.3).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5]);
        assert_eq!(policy.wait_after(u32::MAX, 0.0), Duration::from_secs(5));
        let jittered = RetryPolicy { jitter: true, ..policy };
        assert_eq!(jittered.wait_after(1, 0.0), Duration::from_millis(500));
        assert_eq!(jittered.wait_after(1, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn rules_decide_over_what_the_failure_says_of_itself() {
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let usual = RetryPolicy::default();
        assert!(usual.repeats("error", "busy", false) && !usual.repeats("http:404", "", true));
        let some = RetryPolicy { retry_on: Some(rules(&["http:4*", "message ~ busy"])), ..usual.clone() };
        assert!(some.repeats("http:404", "", true), "the author knows better");
        assert!(some.repeats("error", "busy", false));
        assert!(!some.repeats("exit:1", "", false));
        let but = RetryPolicy { not_on: rules(&["http:404"]), ..some };
        assert!(!but.repeats("http:404", "busy", true), "`not_on` goes first");
        assert!(but.repeats("http:429", "", false));
    }
}
