//! The keys of one issuer, as last fetched, and when they are fetched again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use taskiq_flow_outbound::{Reach, Url};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::fetch::{FetchError, Fetched, client, fetch};
use super::url::JwksUrl;
use crate::digest::KeyDigest;
use crate::jwt::key::{JwtAlgorithm, VerifyingKey};

/// How long it is at least between two requests that tokens with unknown keys cause.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// How soon an issuer can have its keys fetched again by `Cache-Control`, unless `jwks_refresh_seconds` is shorter.
pub const SOONEST_REFRESH: Duration = Duration::from_secs(60);

/// How long a `kid` that the issuer does not have is remembered; no token with it causes a request meanwhile.
pub const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// How many such names are remembered; further ones are only bounded by [`MIN_INTERVAL`].
const MAX_UNKNOWN: usize = 1024;

/// How long a request waits for the answers of issuers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// After a failure it is tried again this much later, then after twice as long each time, up to the other.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where keys come from, and how fresh they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceOptions {
    pub(crate) shown: JwksUrl,
    pub(crate) url: Url,
    pub(crate) reach: Reach,
    /// What keys may be for.
    pub(crate) accepted: Vec<JwtAlgorithm>,
    /// From how old on keys are fetched anew.
    pub(crate) refresh: Duration,
    /// From how old on they are no longer used.
    pub(crate) max_age: Duration,
    /// See [`MIN_INTERVAL`].
    pub(crate) min_interval: Duration,
}

/// The keys of one issuer. A clone is the same; when the last one is dropped, nothing is fetched any more.
#[derive(Clone)]
pub(crate) struct KeySource {
    inner: Arc<Inner>,
}

/// Keys, and until when they are good.
#[derive(Debug)]
pub(crate) struct Held {
    keys: Vec<VerifyingKey>,
    fetched: Instant,
    /// For how long they are fresh.
    fresh_for: Duration,
}

struct Inner {
    options: SourceOptions,
    client: OnceLock<reqwest::Client>,
    held: ArcSwapOption<Held>,
    state: Mutex<State>,
    /// Counts the answers and failures.
    rounds: watch::Sender<u64>,
    started: OnceLock<Started>,
}

#[derive(Default)]
struct State {
    under_way: bool,
    /// When a token last caused a request.
    asked: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    unknown: HashMap<KeyDigest, Instant>,
}

struct Started {
    on_change: Box<dyn Fn() + Send + Sync>,
    task: AbortHandle,
}

/// An answer that is waited for.
#[derive(Debug)]
pub(crate) struct LookingFor {
    source: KeySource,
    name: KeyDigest,
    rounds: watch::Receiver<u64>,
}

/// Ends a round however the fetching ended.
struct Round(Arc<Inner>);

impl Held {
    pub(crate) fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    #[cfg(test)]
    pub(super) fn fresh_for(&self) -> Duration {
        self.fresh_for
    }
}

impl KeySource {
    /// Fetches nothing until it is [started](KeySource::start).
    pub(crate) fn new(options: SourceOptions) -> Self {
        let (rounds, _) = watch::channel(0);
        KeySource {
            inner: Arc::new(Inner {
                options,
                client: OnceLock::new(),
                held: ArcSwapOption::empty(),
                state: Mutex::new(State::default()),
                rounds,
                started: OnceLock::new(),
            }),
        }
    }

    /// Whether the other would fetch the same from the same place.
    pub(crate) fn is_like(&self, other: &KeySource) -> bool {
        self.inner.options == other.inner.options
    }

    /// Whether a key could be for this algorithm.
    pub(crate) fn accepts(&self, algorithm: JwtAlgorithm) -> bool {
        self.inner.options.accepted.contains(&algorithm)
    }

    /// The keys, unless they are too old.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.inner.held.load_full().filter(|held| held.fetched.elapsed() < self.inner.options.max_age)
    }

    /// Whether there is a key.
    pub(crate) fn is_ready(&self) -> bool {
        self.held().is_some_and(|held| !held.keys.is_empty())
    }

    /// Whether there is a key of this name; for a token that names none, whether there is any.
    pub(crate) fn has(&self, kid: Option<&str>) -> bool {
        let fits = |key: &VerifyingKey| kid.is_none() || key.kid() == kid;
        self.held().is_some_and(|held| held.keys.iter().any(fits))
    }

    /// Begins to fetch keys and to keep them fresh, in the background; `on_change` is called whenever they are others.
    /// Later calls do nothing. Outside of a Tokio runtime nothing can be fetched, and no token will pass.
    pub(crate) fn start(&self, on_change: impl Fn() + Send + Sync + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::error!("keys of tokens can only be fetched within a Tokio runtime: none will be there");
            return;
        };
        self.inner.started.get_or_init(|| Started {
            on_change: Box::new(on_change),
            task: runtime.spawn(keep_fresh(Arc::downgrade(&self.inner))).abort_handle(),
        });
        // Before any token can ask for it, so that the first load is none of those that tokens cause.
        let mut state = self.inner.state.lock();
        let fresh = self.inner.held.load().as_ref().is_some_and(|held| !held.fresh_for.is_zero());
        if !state.under_way && !fresh && state.retry_at.is_none() {
            self.inner.begin(&mut state);
        }
    }

    /// Has the keys fetched for a token whose key is not among them, or finds an answer under way already; none, when
    /// it is too soon to ask again.
    pub(crate) fn look_for(&self, kid: Option<&str>) -> Option<LookingFor> {
        let name = KeyDigest::of(kid.unwrap_or_default());
        // Before asking, so that no answer can come unseen.
        let rounds = self.inner.rounds.subscribe();
        let source = self.clone();
        Inner::ask(&self.inner, &name).then_some(LookingFor { source, name, rounds })
    }

    /// Goes on with the keys of an earlier source of the same address, of those algorithms that are still accepted,
    /// until it has fetched its own.
    pub(crate) fn inherit(&self, earlier: &KeySource) {
        let (mine, theirs) = (&self.inner.options, &earlier.inner.options);
        if (&mine.url, mine.reach) != (&theirs.url, theirs.reach) {
            return;
        }
        if let Some(held) = earlier.held() {
            let keys = held.keys.iter().filter(|key| self.accepts(key.algorithm())).cloned().collect();
            let held = Held { keys, fetched: held.fetched, fresh_for: Duration::ZERO };
            self.inner.held.store(Some(Arc::new(held)));
        }
    }
}

impl LookingFor {
    /// Waits for the answer, and remembers the key named `kid` as unknown if it is not in it. Whether one came: the token
    /// may be looked at again.
    pub(crate) async fn answered(mut self, kid: Option<&str>, deadline: tokio::time::Instant) -> bool {
        let round = tokio::time::timeout_at(deadline, self.rounds.changed()).await;
        let answered = round.is_ok_and(|end| end.is_ok());
        if answered && !self.source.has(kid) {
            self.source.inner.remember_unknown(self.name);
        }
        answered
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(started) = self.started.get() {
            started.task.abort();
        }
    }
}

impl Inner {
    /// Begins a round for a token, or finds one under way; `false` when it is too soon for another.
    fn ask(self: &Arc<Self>, name: &KeyDigest) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.unknown.get(name).is_some_and(|until| *until > now) {
            return false;
        }
        if state.under_way {
            return true;
        }
        let too_soon = state.asked.is_some_and(|asked| now < asked + self.options.min_interval);
        if too_soon || self.started.get().is_none() {
            return false;
        }
        state.asked = Some(now);
        self.begin(&mut state);
        true
    }

    /// Fetches in a task of its own: whoever waits for it may go away meanwhile.
    fn begin(self: &Arc<Self>, state: &mut State) {
        state.under_way = true;
        let round = Round(self.clone());
        tokio::spawn(async move { round.0.fetch().await });
    }

    async fn fetch(&self) {
        let answer = match self.client() {
            Ok(client) => fetch(client, &self.options.url, &self.options.accepted).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(fetched) => self.take(fetched),
            Err(error) => self.failed(&error),
        }
    }

    fn client(&self) -> Result<&reqwest::Client, FetchError> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let made = client(self.options.reach)?;
                Ok(self.client.get_or_init(|| made))
            }
        }
    }

    fn take(&self, fetched: Fetched) {
        metrics::counter!("taskiq_flow_jwks_fetches_total", "outcome" => "success").increment(1);
        let url = &self.options.shown;
        let soonest = SOONEST_REFRESH.min(self.options.refresh);
        let fresh_for = fetched.fresh_for.unwrap_or(self.options.refresh);
        let fresh_for = fresh_for.clamp(soonest, self.options.refresh);
        let keys = fetched.set.keys;
        let earlier = self.held.load_full();
        let changed = earlier.as_ref().is_none_or(|earlier| names(&earlier.keys) != names(&keys));
        if changed {
            for (kid, why) in &fetched.set.left_out {
                let kid = kid.as_deref().unwrap_or("without kid");
                tracing::warn!(%url, kid = kid.escape_debug().to_string(), %why, "a published key is not used");
            }
            let kids: Vec<&str> = keys.iter().filter_map(VerifyingKey::kid).collect();
            tracing::info!(%url, keys = keys.len(), ?kids, "the keys of tokens were fetched");
            if keys.is_empty() {
                tracing::error!(%url, "the issuer publishes no usable key: none of its tokens passes");
            }
        }
        self.held.store(Some(Arc::new(Held { keys, fetched: Instant::now(), fresh_for })));
        let mut state = self.state.lock();
        state.failures = 0;
        state.retry_at = None;
        if changed {
            state.unknown.clear();
            drop(state);
            self.tell();
        }
    }

    fn failed(&self, error: &FetchError) {
        metrics::counter!("taskiq_flow_jwks_fetches_total", "outcome" => "failure").increment(1);
        let (first, last) = RETRY;
        let mut state = self.state.lock();
        let pause = first.saturating_mul(2_u32.saturating_pow(state.failures.min(16))).min(last);
        state.failures = state.failures.saturating_add(1);
        state.retry_at = Some(Instant::now() + pause);
        drop(state);
        let age = self.held.load().as_ref().map(|held| held.fetched.elapsed().as_secs());
        let url = &self.options.shown;
        match age {
            Some(age) => {
                tracing::warn!(%url, %error, age_seconds = age, "the keys of tokens cannot be fetched: the last ones stay for now");
            }
            None => {
                tracing::error!(%url, %error, "the keys of tokens cannot be fetched: no token of this issuer passes");
            }
        }
    }

    /// Does what is due, and says when to look again.
    fn turn(self: &Arc<Self>) -> Duration {
        let (now, max_age) = (Instant::now(), self.options.max_age);
        let mut held = self.held.load_full();
        if held.as_ref().is_some_and(|held| held.fetched.elapsed() >= max_age) {
            tracing::error!(url = %self.options.shown, "the keys of tokens are too old: no token of this issuer passes");
            self.held.store(None);
            held = None;
            self.tell();
        }
        let mut state = self.state.lock();
        let due = match (&held, state.retry_at) {
            (_, Some(retry)) => retry,
            (Some(held), None) => held.fetched + held.fresh_for,
            (None, None) => now,
        };
        if due <= now && !state.under_way {
            self.begin(&mut state);
        }
        let end = held.map(|held| held.fetched + max_age);
        let next = if state.under_way { end } else { Some(end.map_or(due, |end| end.min(due))) };
        next.map_or(RETRY.1, |next| next.saturating_duration_since(now))
    }

    fn remember_unknown(&self, name: KeyDigest) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.unknown.len() >= MAX_UNKNOWN {
            state.unknown.retain(|_, until| *until > now);
        }
        if state.unknown.len() < MAX_UNKNOWN {
            state.unknown.insert(name, now + UNKNOWN_FOR);
        }
    }

    fn tell(&self) {
        if let Some(started) = self.started.get() {
            (started.on_change)();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.0.state.lock().under_way = false;
        self.0.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
    }
}

/// Looks after the keys for as long as somebody has the source.
async fn keep_fresh(source: Weak<Inner>) {
    loop {
        let Some(inner) = source.upgrade() else { return };
        let mut rounds = inner.rounds.subscribe();
        let pause = inner.turn();
        drop(inner);
        // Woken by the end of a round too, which decides when the next is due; the error is the end of the source.
        let woken = tokio::time::timeout(pause, rounds.changed()).await;
        if woken.is_ok_and(|changed| changed.is_err()) {
            return;
        }
    }
}

/// What makes sets of keys equal.
fn names(keys: &[VerifyingKey]) -> Vec<(Option<&str>, KeyDigest)> {
    let mut names: Vec<_> = keys.iter().map(|key| (key.kid(), key.fingerprint())).collect();
    names.sort_unstable_by(|a, b| (a.0, a.1.0).cmp(&(b.0, b.1.0)));
    names
}
