//! Rate limits: a burst, then a smooth refill, per key.
//!
//! ```
//! use taskiq_flow_security::rate_limit::{Limit, RateLimiter, RateLimiterOptions, rate_limit_headers};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let limiter = RateLimiter::new(RateLimiterOptions::default());
//! let limit: Limit = "2/minute".parse()?;
//! assert!(limiter.check("get_dag|ip|203.0.113.7", &limit).await.allowed);
//! assert!(limiter.check("get_dag|ip|203.0.113.7", &limit).await.allowed);
//! let refused = limiter.check("get_dag|ip|203.0.113.7", &limit).await;
//! assert!(!refused.allowed);
//! let [_, (_, state)] = rate_limit_headers("get_dag", &limit, &refused);
//! assert_eq!(state, "\"get_dag\";r=0;t=30");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rules: a refusal takes nothing, so a client that keeps knocking is let in as soon as one that waits. A limit
//! of several quotas is taken whole or not at all. In memory the number of buckets is bounded, and an address
//! scan cannot free a bucket that is empty; with Redis (feature `redis`) the limit holds across replicas, by
//! the server's clock, to the microsecond.
//!
//! Caveat: a bucket is forgotten when the process ends (memory) or the server loses it (Redis).

mod gcra;
mod headers;
mod limit;
#[cfg(feature = "redis")]
mod redis;
mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use self::gcra::{Decision, gcra, gcra_peek};
pub use self::headers::rate_limit_headers;
pub(crate) use self::headers::{concurrency_headers, policy_name};
pub use self::limit::{Limit, LimitError, Quota};
use self::table::{MAX_ENTRY_BYTES, MAX_KEY_BYTES, Table};
use crate::networks::push_ip;

/// Buckets held in memory unless said otherwise: at worst 26 MB of them.
const DEFAULT_ENTRIES: usize = 65_536;

/// Whatever keys and limits an attacker can bring about, the table stays below this.
const MEMORY_BOUND: usize = 32 << 20;
const _: () = assert!(DEFAULT_ENTRIES * MAX_ENTRY_BYTES < MEMORY_BOUND);

/// Bytes of the longest address with the length of its network.
const LONGEST_ADDRESS: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/64".len();

/// Time since a fixed moment of the past; only differences count.
pub type RateClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How a [`RateLimiter`] keeps its buckets.
#[derive(Clone)]
pub struct RateLimiterOptions {
    /// Most buckets held in memory: about 160 bytes each with the keys and limits of the guide, at most 400. Default
    /// 65536; at least 128.
    pub max_entries: usize,
    /// Clock of the buckets in memory. Default: the monotonic clock of the machine.
    pub clock: RateClock,
}

/// What to do with a request while the shared storage cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStorageError {
    /// Count in this process alone.
    #[default]
    Local,
    /// Refuse the request.
    Deny,
}

/// Why a shared storage cannot be used. The URL is never part of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitStorageError {
    /// The URL cannot be read.
    #[error(
        "the rate limit storage is no URL this build can use; expected redis://[user:password@]host[:port][/database], \
         or rediss:// for TLS"
    )]
    Url,
    /// No answer in time, or no connection.
    #[error("the rate limit storage does not answer")]
    Away,
    /// Its certificate is not trusted, or it does not speak TLS.
    #[error("the rate limit storage has no certificate that this system trusts for its name")]
    Certificate,
    /// It answered that the user or password is wrong.
    #[error("the rate limit storage refused the user or password of its URL")]
    Credentials,
    /// It answered with an error.
    #[error(
        "the rate limit storage refused the command; is it a Redis server of version 5 or newer, and writable?"
    )]
    Refused,
}

/// Counts requests by key. A clone shares the buckets.
#[derive(Clone)]
pub struct RateLimiter {
    inner: Arc<Inner>,
}

struct Inner {
    table: Table,
    clock: RateClock,
    #[cfg(feature = "redis")]
    shared: Option<(redis::SharedBuckets, OnStorageError)>,
}

impl RateLimiter {
    /// Buckets in the memory of this process.
    pub fn new(options: RateLimiterOptions) -> Self {
        let inner = Inner {
            table: Table::new(options.max_entries),
            clock: options.clock,
            #[cfg(feature = "redis")]
            shared: None,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Buckets in a Redis server, shared by all that use the same URL. Must be called inside a Tokio runtime.
    ///
    /// A server that does not answer is no error: `on_error` says what happens until it does, and it is asked
    /// again once a second.
    ///
    /// # Errors
    /// [`RateLimitStorageError::Url`] when the URL cannot be read.
    #[cfg(feature = "redis")]
    pub async fn redis(
        url: secrecy::SecretString,
        on_error: OnStorageError,
        options: RateLimiterOptions,
    ) -> Result<Self, RateLimitStorageError> {
        let shared = redis::SharedBuckets::open(&url)?;
        if let Err(error) = shared.ping().await {
            tracing::error!(%error, ?on_error, "rate limits are not shared yet");
        }
        let inner = Inner {
            table: Table::new(options.max_entries),
            clock: options.clock,
            shared: Some((shared, on_error)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes one request from the bucket `key` (for example `list_pipelines|ip|203.0.113.7`).
    pub async fn check(&self, key: &str, limit: &Limit) -> Decision {
        let key = bounded(key);
        #[cfg(feature = "redis")]
        if let Some((shared, on_error)) = &self.inner.shared {
            // On the heap: who counts in memory need not make room for it.
            match (Box::pin(shared.ask(&key, limit, true)).await, on_error) {
                (Ok(decision), _) => return decision,
                (Err(_), OnStorageError::Deny) => return Decision::refused(limit, Duration::from_secs(1)),
                (Err(_), OnStorageError::Local) => {}
            }
        }
        self.inner.table.check(&key, limit, self.now_ns())
    }

    /// [`RateLimiter::check`] in the memory of this process, whatever is configured: for what must be answered while
    /// the shared storage is away, too.
    pub fn check_here(&self, key: &str, limit: &Limit) -> Decision {
        self.inner.table.check(&bounded(key), limit, self.now_ns())
    }

    /// What [`RateLimiter::check`] would say, taking nothing: `remaining` is what there is before the request.
    pub async fn peek(&self, key: &str, limit: &Limit) -> Decision {
        let key = bounded(key);
        #[cfg(feature = "redis")]
        if let Some((shared, on_error)) = &self.inner.shared {
            match (Box::pin(shared.ask(&key, limit, false)).await, on_error) {
                (Ok(decision), _) => return decision,
                (Err(_), OnStorageError::Deny) => return Decision::refused(limit, Duration::from_secs(1)),
                (Err(_), OnStorageError::Local) => {}
            }
        }
        self.inner.table.peek(&key, limit, self.now_ns())
    }

    /// Whether the storage answers. Memory always does.
    pub async fn ready(&self) -> bool {
        #[cfg(feature = "redis")]
        if let Some((shared, _)) = &self.inner.shared {
            return shared.ping().await.is_ok();
        }
        true
    }

    /// Buckets held in memory now.
    pub fn entries(&self) -> usize {
        self.inner.table.len()
    }

    fn now_ns(&self) -> u64 {
        // 584 years after the clock's start the buckets stand still.
        u64::try_from((self.inner.clock)().as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter").field("entries", &self.entries()).finish_non_exhaustive()
    }
}

impl Default for RateLimiterOptions {
    fn default() -> Self {
        let start = Instant::now();
        Self { max_entries: DEFAULT_ENTRIES, clock: Arc::new(move || start.elapsed()) }
    }
}

impl fmt::Debug for RateLimiterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterOptions").field("max_entries", &self.max_entries).finish_non_exhaustive()
    }
}

/// The part of a key that stands for an address: an IPv4 address as it is, an IPv6 address by its /64.
pub fn ip_key(ip: IpAddr) -> String {
    let network = subscriber(ip);
    let mut key = String::with_capacity(LONGEST_ADDRESS);
    push_ip(&mut key, network);
    if network.is_ipv6() {
        key.push_str("/64");
    }
    key
}

/// What stands for all addresses that one subscriber can choose among: an IPv4 address (also one that came mapped into
/// IPv6) for itself, the first address of its /64 for an IPv6 address.
pub(crate) fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// The limits of the security guide's table, by endpoint name.
pub fn guide_limits() -> BTreeMap<&'static str, Limit> {
    [
        ("list_pipelines", 60),
        ("get_dag", 120),
        ("get_critical_path", 120),
        ("get_parallel_groups", 120),
        ("execute_pipeline", 10),
        ("get_status", 30),
        ("websocket_connect", 5),
    ]
    .map(|(endpoint, count)| (endpoint, Limit::per_minute(count)))
    .into()
}

fn bounded(key: &str) -> Cow<'_, str> {
    if key.len() <= MAX_KEY_BYTES {
        return Cow::Borrowed(key);
    }
    Cow::Owned(format!("sha256:{}", hex::encode(Sha256::digest(key))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn limiter() -> (RateLimiter, Arc<AtomicU64>) {
        let millis = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&millis);
        let clock: RateClock = Arc::new(move || Duration::from_millis(read.load(Ordering::Relaxed)));
        (RateLimiter::new(RateLimiterOptions { max_entries: 1000, clock }), millis)
    }

    #[tokio::test]
    async fn the_guides_table_gives_exactly_its_numbers() {
        let (limiter, millis) = limiter();
        for (endpoint, limit) in guide_limits() {
            let key = format!("{endpoint}|ip|{}", ip_key([203, 0, 113, 7].into()));
            let mut allowed = 0;
            for _ in 0..130 {
                allowed += u64::from(limiter.check(&key, &limit).await.allowed);
            }
            assert_eq!(Some(allowed), limit.quotas().next().map(|q| q.burst()));
        }
        millis.store(60_000, Ordering::Relaxed);
        let limit = &guide_limits()["websocket_connect"];
        let d = limiter.check("websocket_connect|ip|203.0.113.7", limit).await;
        assert_eq!((d.allowed, d.remaining), (true, 4));
    }

    #[tokio::test]
    async fn peek_asks_and_check_charges() {
        let (limiter, _) = limiter();
        let limit: Limit = "20/minute".parse().unwrap();
        for _ in 0..50 {
            assert!(limiter.peek("failures|ip|x", &limit).await.allowed);
        }
        for _ in 0..20 {
            limiter.check("failures|ip|x", &limit).await;
        }
        assert!(!limiter.peek("failures|ip|x", &limit).await.allowed);
        assert!(limiter.ready().await);
    }

    #[tokio::test]
    async fn a_giant_key_is_kept_small_and_apart() {
        let (limiter, _) = limiter();
        let limit: Limit = "1/day".parse().unwrap();
        let giant = "k".repeat(1_000_000);
        assert!(limiter.check(&giant, &limit).await.allowed);
        assert!(!limiter.check(&giant, &limit).await.allowed);
        assert!(limiter.check(&format!("{giant}k"), &limit).await.allowed);
        assert!(bounded(&giant).len() < MAX_KEY_BYTES);
    }

    #[tokio::test]
    async fn neither_many_networks_nor_one_networks_addresses_fill_the_memory_or_free_a_client() {
        let limiter = RateLimiter::new(RateLimiterOptions::default());
        let limit: Limit = "5/hour".parse().unwrap();
        let key = |ip: u128| format!("execute_pipeline|ip|{}", ip_key(Ipv6Addr::from_bits(ip).into()));
        let base = u128::from("2001:db8::".parse::<Ipv6Addr>().unwrap());
        // A scan inside one /64 is one client.
        let mut allowed = 0;
        for host in 0..100_000 {
            allowed += u32::from(limiter.check(&key(base + host), &limit).await.allowed);
        }
        assert_eq!((allowed, limiter.entries()), (5, 1));
        // As many networks.
        for network in 1..=100_000 {
            assert!(limiter.check(&key(base + (network << 64)), &limit).await.allowed);
            assert!(limiter.entries() <= DEFAULT_ENTRIES);
        }
        assert!(!limiter.check(&key(base + 7), &limit).await.allowed, "the first client is limited still");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_callers_share_one_burst() {
        let (limiter, _) = limiter();
        let limit: Limit = "50/hour".parse().unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (limiter, limit) = (limiter.clone(), limit.clone());
                tokio::spawn(async move {
                    let mut allowed = 0;
                    for _ in 0..40 {
                        allowed += u32::from(limiter.check("k", &limit).await.allowed);
                    }
                    allowed
                })
            })
            .collect();
        let mut allowed = 0;
        for task in tasks {
            allowed += task.await.unwrap();
        }
        assert_eq!(allowed, 50);
    }

    #[test]
    fn an_address_is_one_client_in_every_spelling() {
        assert_eq!(ip_key("203.0.113.7".parse().unwrap()), "203.0.113.7");
        assert_eq!(ip_key("::ffff:203.0.113.7".parse().unwrap()), "203.0.113.7");
        assert_eq!(ip_key("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(ip_key("2001:db8:1:2::9".parse().unwrap()), "2001:db8:1:2::/64");
        assert_ne!(ip_key("2001:db8:1:3::9".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
