//! Waiting with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `probe` gives a value; `None` when `limit` has passed without one.
pub async fn until<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Some(value);
        }
        if started.elapsed() >= limit {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The value of `future`.
///
/// # Panics
/// When it takes longer than `limit`; the message begins with `what`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing after {limit:?}"),
    }
}
