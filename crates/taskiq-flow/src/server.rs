//! Puts engine, store, guard and routes together.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_api::{ApiOptions, AppState, Metrics, OptionsError, ServeOptions};
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::definition::{Amount, Pipeline, Priority};
use taskiq_flow_core::run::EventView;
use taskiq_flow_engine::{BeforeStart, Engine, EngineOptions, EventFilter, SystemClock};
use taskiq_flow_security::administration::AdministrationError;
use taskiq_flow_security::audit::AuditError;
use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
use taskiq_flow_security::{Administration, AuditLogger, Guard};
use taskiq_flow_store::{MemoryStore, Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, RateLimitStorage, Sources, StoreTarget, TaskiqFlowConfig};
use crate::files::{LoadError, load_files};
use crate::firings::GuardedFirings;
use crate::reload::{ConfigSource, Reload};
use crate::security_state::StoreState;
use crate::tls::{TlsError, TlsReloader};

/// How long a shutdown may take from the signal on, in three parts: streams, requests, attempts. Together they stay
/// below the 5 seconds in which a stopped server is gone.
const CLOSE_STREAMS: Duration = Duration::from_millis(500);
const DRAIN_REQUESTS: Duration = Duration::from_millis(1000);
const DRAIN_ATTEMPTS: Duration = Duration::from_millis(1000);

/// A broker and the tasks that were registered on it.
///
/// ```
/// use taskiq_flow::broker::Broker;
/// use taskiq_flow::{InMemoryBroker, Taskiq, task};
///
/// #[task]
/// async fn add(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// let taskiq = Taskiq::new(InMemoryBroker::new());
/// taskiq.register(add);
/// assert_eq!(taskiq.broker().registry().names(), ["add"]);
/// ```
#[derive(Debug, Clone)]
pub struct Taskiq<B = InMemoryBroker>(B);

/// An API that is being put together. Nothing runs yet.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct Api {
    broker: Arc<dyn Broker>,
    config: TaskiqFlowConfig,
    pipelines: Vec<Pipeline>,
    audit: Option<AuditLogger>,
    store: Option<Arc<dyn Store>>,
    sources: Option<Sources>,
    before_start: BeforeStart,
}

/// A running engine with its guard and routes. It listens once it [serves](Server::serve).
#[derive(Debug)]
pub struct Server {
    state: AppState,
    config: TaskiqFlowConfig,
    tls: Option<TlsReloader>,
}

/// Why an API did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The audit log cannot be opened.
    #[error("the audit log cannot be opened: {0}")]
    Audit(#[from] AuditError),
    /// The counters of the rate limits cannot be kept where they should.
    #[error("rate_limit_storage: {0}")]
    RateLimits(String),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys, access lists and revocations of the store cannot be read, or contradict the configuration.
    #[error(transparent)]
    Administration(#[from] AdministrationError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] taskiq_flow_engine::StartError),
    /// The options of the API do not fit together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// TLS cannot be served with the files that are named.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Measurements cannot be taken.
    #[error("metrics cannot be set up: {0}")]
    Metrics(String),
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// Host and port.
        address: String,
        /// What stands against it.
        source: std::io::Error,
    },
}

/// Puts an API together: engine and routes around this broker, guarded as the configuration says.
pub fn create_visualization_api(broker: impl Broker, config: TaskiqFlowConfig) -> Api {
    Api {
        broker: Arc::new(broker),
        config,
        pipelines: Vec::new(),
        audit: None,
        store: None,
        sources: None,
        before_start: BeforeStart::default(),
    }
}

impl<B: Broker + Clone> Taskiq<B> {
    /// Takes a broker.
    pub fn new(broker: B) -> Self {
        Self(broker)
    }

    /// Makes a Rust task known to the broker's workers.
    pub fn register(&self, task: impl crate::task::TaskDef) -> &Self {
        task.register(self.0.registry());
        self
    }

    /// The broker.
    pub fn broker(&self) -> &B {
        &self.0
    }
}

impl Api {
    /// Adds a pipeline.
    pub fn pipeline(mut self, pipeline: Pipeline) -> Self {
        self.pipelines.push(pipeline);
        self
    }

    /// Adds the pipelines of a file, or of all pipeline files in a folder.
    ///
    /// # Errors
    /// [`LoadError`] names file, line and fix.
    pub fn load(mut self, path: impl AsRef<Path>) -> Result<Self, LoadError> {
        self.pipelines.extend(load_files([path])?);
        Ok(self)
    }

    /// Writes audit records with this logger instead of the one that the configuration describes.
    pub fn audit_logger(mut self, logger: AuditLogger) -> Self {
        self.audit = Some(logger);
        self
    }

    /// Reads the configuration again from these sources when it is asked to: by `POST /security/reload`, or by
    /// [`Reload::settings`].
    pub fn reload_from(mut self, sources: Sources) -> Self {
        self.sources = Some(sources);
        self
    }

    /// Keeps runs in this store instead of the one that the configuration describes.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Calls back for each event that passes the filter, from the first one on. See [`Engine::on`], which does the same
    /// while the engine runs and can be stopped.
    ///
    /// ```
    /// use taskiq_flow::engine::EventFilter;
    /// use taskiq_flow::{InMemoryBroker, TaskiqFlowConfig, create_visualization_api};
    ///
    /// let failures = EventFilter::all().types(["PipelineErrorEvent"])?;
    /// let api = create_visualization_api(InMemoryBroker::new(), TaskiqFlowConfig::default())
    ///     .on(failures, |event| eprintln!("a run of {} has failed", event.pipeline_id));
    /// # let _ = api;
    /// # Ok::<(), taskiq_flow::engine::EventFilterError>(())
    /// ```
    pub fn on(self, filter: EventFilter, callback: impl FnMut(&EventView) + Send + 'static) -> Self {
        self.before_start.add(move |engine| _ = engine.on(filter, callback));
        self
    }

    /// As [`Api::on`], with a callback that is awaited and must not block its thread.
    pub fn on_async<F>(
        self,
        filter: EventFilter,
        callback: impl FnMut(Arc<EventView>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.before_start.add(move |engine| _ = engine.on_async(filter, callback));
        self
    }

    /// Opens store and audit log, starts the engine and takes up unfinished runs.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Server, StartError> {
        let Self { broker, config, pipelines, audit, store, sources, before_start } = self;
        config.validate()?;
        let settings = config.security_settings()?;
        let metrics = match config.metrics_enabled {
            true => Some(Metrics::install().map_err(|error| StartError::Metrics(error.to_string()))?),
            false => None,
        };
        let limiter = limiter(&config).await?;
        let store = match store {
            Some(store) => store,
            None => open_store(&config).await?,
        };
        let audit = match audit {
            Some(audit) => audit,
            None => AuditLogger::open(config.audit_options()?)?,
        };
        // Before anything runs: without its keys and revocations a server must not start.
        let state = Arc::new(StoreState(Arc::clone(&store)));
        let administration = Administration::start(settings, limiter, audit, state).await?;
        let tls = match config.tls_files() {
            Some(files) => Some(TlsReloader::open(files, administration.guard().clone()).await?),
            None => None,
        };
        let firings = Arc::new(GuardedFirings(administration.guard().clone()));
        let options = EngineOptions {
            firing_gate: Some(firings),
            webhooks: Some(config.webhooks()?),
            before_start,
            ..engine_options(&config)
        };
        let engine = Engine::start(store, broker, Arc::new(SystemClock), options, pipelines).await?;
        let options = ApiOptions {
            max_body_bytes: config.max_body_bytes,
            websocket_max_connections: config.websocket_max_connections,
            allow_remote_commands: config.allow_remote_commands,
            metrics,
            metrics_path: config.metrics_path.clone(),
            backup_dir: config.backup_dir.clone(),
            max_backups: config.max_backups,
            // It was checked with the rest of the configuration.
            max_priority: u8::try_from(config.max_priority)
                .ok()
                .and_then(|number| Priority::try_from(number).ok())
                .unwrap_or(Priority::MAX),
            settings_source: sources.map(|sources| ConfigSource::of(sources, config.clone())),
        };
        Ok(Server { state: AppState::new(engine, administration, options)?, config, tls })
    }
}

impl Server {
    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.state.engine()
    }

    /// The guard.
    pub fn guard(&self) -> &Guard {
        self.state.guard()
    }

    /// The TLS it serves with, to have its files read again; none: it speaks plain HTTP.
    pub fn tls(&self) -> Option<&TlsReloader> {
        self.tls.as_ref()
    }

    /// What has the configuration read again.
    pub fn reload(&self) -> Reload {
        Reload(self.state.clone())
    }

    /// What changes keys and access lists, and puts a changed configuration in force.
    pub fn administration(&self) -> &Administration {
        self.state.administration()
    }

    /// The routes, to be served by other means than [`Server::serve`].
    pub fn router(&self) -> taskiq_flow_api::Router {
        taskiq_flow_api::router(self.state.clone())
    }

    /// Listens on the configured address and serves until the process is asked to end (SIGTERM or SIGINT).
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn serve(self) -> Result<(), ServeError> {
        let listener = self.bind().await?;
        self.serve_on(listener, stop_signal()).await;
        Ok(())
    }

    /// Listens on the configured address.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn bind(&self) -> Result<TcpListener, ServeError> {
        bind(&self.config).await
    }

    /// Serves until `stop` comes, then drains: no new requests, streams are closed, attempts under way may finish.
    pub async fn serve_on(self, listener: TcpListener, stop: impl Future<Output = ()> + Send) {
        let shutdown = CancellationToken::new();
        let options = ServeOptions {
            tls: self.tls.as_ref().map(TlsReloader::tls),
            max_connections: self.config.max_connections,
            max_connections_per_address: self.config.max_connections_per_address,
            guard: Some(self.guard().clone()),
            drain: DRAIN_REQUESTS,
        };
        let served = taskiq_flow_api::serve(listener, self.router(), options, shutdown.clone());
        let served = async {
            match &self.tls {
                Some(tls) => tokio::select! {
                    () = served => {}
                    () = tls.watch() => {}
                },
                None => served.await,
            }
        };
        let state = &self.state;
        let stopping = async {
            stop.await;
            tracing::info!("stopping");
            state.close_streams(CLOSE_STREAMS).await;
            shutdown.cancel();
        };
        tokio::join!(served, stopping);
        self.shutdown().await;
    }

    /// Stops engine and audit log without having served.
    pub async fn shutdown(self) {
        // While the store is still open.
        if let Err(error) = self.state.administration().flush().await {
            tracing::warn!(%error, "when keys were used last could not be written down");
        }
        self.state.engine().shutdown().await;
        let audit = self.state.guard().audit().clone();
        // It waits for the last record to be on disk.
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        tracing::info!("stopped");
    }
}

/// Listens on the configured address.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn bind(config: &TaskiqFlowConfig) -> Result<TcpListener, ServeError> {
    let (host, port) = (config.host.as_str(), config.port);
    let bound = TcpListener::bind((host.trim_start_matches('[').trim_end_matches(']'), port)).await;
    bound.map_err(|source| ServeError::Bind { address: format!("{host}:{port}"), source })
}

/// Opens the store that the configuration names.
///
/// # Errors
/// [`StartError`].
pub async fn open_store(config: &TaskiqFlowConfig) -> Result<Arc<dyn Store>, StartError> {
    match config.store_target()? {
        StoreTarget::Memory => Ok(Arc::new(match config.retention_runs {
            None => MemoryStore::new(),
            Some(0) => MemoryStore::with_room(usize::MAX),
            Some(runs) => MemoryStore::with_room(runs),
        })),
        #[cfg(feature = "sqlite")]
        StoreTarget::Sqlite { path } => {
            use taskiq_flow_store::{Durability, SqliteOptions, SqliteStore};
            let durability = match config.durability {
                crate::config::Durability::Strict => Durability::Strict,
                crate::config::Durability::Relaxed => Durability::Relaxed,
            };
            let options = SqliteOptions { path, durability, ..SqliteOptions::default() };
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(options)).await;
            let lost = |error: tokio::task::JoinError| StoreError::Unavailable {
                place: "store_url".to_owned(),
                reason: error.to_string(),
            };
            Ok(Arc::new(opened.map_err(lost)??))
        }
        #[cfg(not(feature = "sqlite"))]
        StoreTarget::Sqlite { .. } => Err(StoreError::Closed.into()),
    }
}

/// Waits until the process is asked to end: SIGTERM or SIGINT.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals the process can still be killed, and takes up its runs at the next start.
        _ => std::future::pending().await,
    }
}

async fn limiter(config: &TaskiqFlowConfig) -> Result<RateLimiter, StartError> {
    match config.rate_limit_storage_target()? {
        RateLimitStorage::Memory => Ok(RateLimiter::new(RateLimiterOptions::default())),
        #[cfg(feature = "redis")]
        RateLimitStorage::Redis(url) => {
            let opened =
                RateLimiter::redis(url, config.on_storage_error(), RateLimiterOptions::default()).await;
            opened.map_err(|error| StartError::RateLimits(error.to_string()))
        }
        #[cfg(not(feature = "redis"))]
        RateLimitStorage::Redis(_) => {
            Err(StartError::RateLimits("this build has no Redis; build with the feature `redis`".to_owned()))
        }
    }
}

/// How the engine runs, as far as the configuration says it.
fn engine_options(config: &TaskiqFlowConfig) -> EngineOptions {
    let days = u64::from(config.retention_days);
    let defaults = EngineOptions::default();
    let mut resources = defaults.resources.clone();
    // They were checked with the rest of the configuration.
    let configured = config.resources.iter().filter_map(|(name, amount)| {
        Some((Arc::from(name.as_str()), Amount::parse(name, amount.as_str()).ok()?))
    });
    resources.extend(configured);
    EngineOptions {
        resources,
        max_concurrent_attempts: config.max_concurrent_attempts,
        max_concurrent_runs: config.max_concurrent_runs,
        max_queued_runs: config.max_queued_runs,
        max_schedules: config.max_schedules_per_pipeline,
        retention_runs: config.retention_runs.filter(|runs| *runs > 0),
        max_cached_values: config.max_cached_values,
        max_cached_bytes: config.max_cached_bytes as u64,
        retention: (days > 0).then(|| Duration::from_secs(days * 86_400)),
        drain: DRAIN_ATTEMPTS,
        ..defaults
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; stop what listens there, or choose another `port`",
        std::io::ErrorKind::AddrNotAvailable => "; `host` must be an address of this machine",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        _ => "",
    }
}
