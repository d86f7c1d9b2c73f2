//! From sources to one checked configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;
use taskiq_flow_core::diagnostic::nearest;

use super::error::{ConfigError, Origin};
use super::fields::{self, TaskiqFlowConfig, env_name};
use super::layer::{self, Given, Value};
use super::mistake::Mistake;
use super::raw::Raw;
use super::url::ServiceUrl;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "taskiq-flow.toml";

/// Variables with our prefix that are no fields: the command line reads them.
pub const COMMAND_LINE_VARIABLES: [&str; 3] =
    ["TASKIQ_FLOW_API_KEY", "TASKIQ_FLOW_CLIENT_CERT", "TASKIQ_FLOW_CLIENT_KEY"];

/// The address that `redis` alone means, and the default of `rate_limit_storage`.
const REDIS_URL: &str = "REDIS_URL";

/// Where a configuration comes from. What stands later wins: default, file, environment, override.
///
/// ```
/// use taskiq_flow::config::{Origin, Sources};
///
/// let loaded = Sources::default()
///     .env([("TASKIQ_FLOW_PORT", "8001"), ("TASKIQ_FLOW_HOST", "::1")])
///     .set("port", "8002", "--port")
///     .load()?;
/// assert_eq!((loaded.config.host.as_str(), loaded.config.port), ("::1", 8002));
/// assert_eq!(loaded.origins["port"], Origin::Flag("--port".to_owned()));
/// # Ok::<(), taskiq_flow::config::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    default_file: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    overrides: Vec<(String, String, String)>,
}

/// A configuration that was read and checked.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: TaskiqFlowConfig,
    /// What the operator should know: variables that look like fields and are none.
    pub warnings: Vec<ConfigWarning>,
    /// Where the value of each field came from.
    pub origins: BTreeMap<&'static str, Origin>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    given: BTreeMap<&'static str, Given>,
}

/// Something that works and is probably not what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigWarning {
    /// For people.
    pub message: String,
}

impl Sources {
    /// The sources of a program: `taskiq-flow.toml` in the working directory if it is there, and the environment.
    pub fn of_process() -> Self {
        Self { default_file: Some(DEFAULT_FILE.into()), ..Self::default() }.env(std::env::vars_os())
    }

    /// Reads this file. It must be there.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Reads this file when no other is named and it is there.
    #[must_use]
    pub fn default_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.default_file = Some(path.into());
        self
    }

    /// Takes these for the environment's variables.
    #[must_use]
    pub fn env<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// Sets a field over all other sources. `value` is written as in the environment; `flag` is how messages name the
    /// source, such as `--port`.
    #[must_use]
    pub fn set(
        mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        flag: impl Into<String>,
    ) -> Self {
        self.overrides.push((field.into(), value.into(), flag.into()));
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first mistake in a source, or the first value that is not possible.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let default_file = || self.default_file.clone().filter(|path| path.exists());
        let file = self.file.clone().or_else(default_file);
        let mut layers = Vec::new();
        if let Some(path) = &file {
            layers.push(layer::of_file(path)?);
        }
        let (from_env, unknown) = layer::of_env(&self.env)?;
        layers.push(from_env);
        layers.push(self.overrides()?);

        let mut given: BTreeMap<&'static str, Given> = BTreeMap::new();
        for next in layers.into_iter().flatten() {
            if let Some(replaced) = given.insert(next.field.name, next) {
                check_replaced(&replaced)?;
            }
        }
        let mut config = TaskiqFlowConfig::default();
        for given in given.values() {
            let set = |raw: Raw| (given.field.set)(&mut config, &raw);
            given.read().and_then(set).map_err(|mistake| given.error(mistake))?;
        }
        self.point_to_redis(&mut config, &mut given)?;

        let origins = fields::FIELDS.iter().map(|field| {
            (field.name, given.get(field.name).map_or(Origin::Default, |given| given.origin.clone()))
        });
        let origins = origins.collect();
        let warnings = unknown.into_iter().filter_map(|name| unknown_variable(&name)).collect();
        let loaded = Loaded { config, warnings, origins, file, given };
        loaded.config.check().map_err(|found| loaded.place(found.field, found.mistake))?;
        loaded.check_client_auth()?;
        Ok(loaded)
    }

    fn overrides(&self) -> Result<Vec<Given>, ConfigError> {
        let given = |(name, value, flag): &(String, String, String)| {
            let origin = Origin::Flag(flag.clone());
            match fields::field(name) {
                Some(field) => Ok(Given { field, origin, value: Value::Text(value.clone()), text: None }),
                None => Err(ConfigError::of_mistake(Mistake::is("is no field"), name, origin)),
            }
        };
        self.overrides.iter().map(given).collect()
    }

    /// What `REDIS_URL` stands for.
    fn point_to_redis(
        &self,
        config: &mut TaskiqFlowConfig,
        given: &mut BTreeMap<&'static str, Given>,
    ) -> Result<(), ConfigError> {
        let named = |url: &ServiceUrl| url.expose() == "redis";
        let storage_named = named(&config.rate_limit_storage);
        let broker_named = named(&config.broker_url);
        let storage_open = !given.contains_key("rate_limit_storage");
        let Some(redis) = self.redis_url() else {
            for (field, named) in [("rate_limit_storage", storage_named), ("broker_url", broker_named)] {
                if named && let Some(given) = given.get(field) {
                    let mistake = Mistake::is(
                        "is \"redis\", which stands for the address in `REDIS_URL`, and that is not set",
                    )
                    .help("set `REDIS_URL`, or write the address, such as \"redis://127.0.0.1:6379/0\"");
                    return Err(given.error(mistake));
                }
            }
            return Ok(());
        };
        let mut take = |name: &'static str| -> Result<(), ConfigError> {
            let Some(field) = fields::field(name) else { return Ok(()) };
            let origin = Origin::Environment(REDIS_URL.to_owned());
            let Some(text) = redis.to_str() else {
                return Err(ConfigError::of_mistake(Mistake::must("be UTF-8 text"), name, origin));
            };
            let from_env = Given { field, origin, value: Value::Text(text.to_owned()), text: None };
            let set = |raw: Raw| (field.set)(config, &raw);
            from_env.read().and_then(set).map_err(|mistake| from_env.error(mistake))?;
            given.insert(name, from_env);
            Ok(())
        };
        if storage_open || storage_named {
            take("rate_limit_storage")?;
        }
        if broker_named {
            take("broker_url")?;
        }
        Ok(())
    }

    /// A variable that is set to nothing says nothing.
    fn redis_url(&self) -> Option<&OsString> {
        let (_, value) = self.env.iter().find(|(name, _)| name == REDIS_URL)?;
        (!value.is_empty()).then_some(value)
    }
}

impl Loaded {
    /// A mistake in a field, with the place the field was read from.
    pub(super) fn place(&self, field: &str, mistake: Mistake) -> ConfigError {
        match self.given.get(field) {
            Some(given) => given.error(mistake),
            None => ConfigError::of_mistake(mistake, field, Origin::Default),
        }
    }

    /// Whoever says that clients need a certificate, or may show one, believes that they are asked for it.
    fn check_client_auth(&self) -> Result<(), ConfigError> {
        const FIELD: &str = "tls_client_auth";
        if self.config.tls_client_ca.is_some() || !self.given.contains_key(FIELD) {
            return Ok(());
        }
        let mistake = Mistake::is("is set without `tls_client_ca`: no client is asked for a certificate")
            .help("name the authorities that sign clients' certificates in `tls_client_ca`, or remove it");
        Err(self.place(FIELD, mistake))
    }

    /// Checked settings for the security crate.
    ///
    /// # Errors
    /// A field that cannot be, with its place. [`Sources::load`] has made the same checks.
    pub fn security_settings(&self) -> Result<taskiq_flow_security::settings::Settings, ConfigError> {
        self.config.settings().map_err(|found| self.place(found.field, found.mistake))
    }
}

impl TaskiqFlowConfig {
    /// Reads the environment, and nothing else.
    ///
    /// # Errors
    /// The first variable that cannot be, by name.
    pub fn from_env() -> Result<Self, ConfigError> {
        let loaded = Sources::default().env(std::env::vars_os()).load()?;
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.message);
        }
        Ok(loaded.config)
    }

    /// Reads a TOML, YAML or JSON file, and nothing else. [`Sources`] combines files and environment.
    ///
    /// # Errors
    /// The first mistake, with line and column.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(Sources::default().file(path.as_ref()).load()?.config)
    }
}

/// Shows which sources there are, and no value.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("default_file", &self.default_file)
            .field("env", &self.env.len())
            .field("overrides", &self.overrides.iter().map(|(_, _, flag)| flag).collect::<Vec<_>>())
            .finish()
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.origin)
    }
}

/// A value that another source replaces is not used, but a mistake in it would come up at the worst time. Files it
/// points to need not be there.
fn check_replaced(given: &Given) -> Result<(), ConfigError> {
    if given.is_indirect() {
        return Ok(());
    }
    let set = |raw: Raw| (given.field.set)(&mut TaskiqFlowConfig::default(), &raw);
    given.read().and_then(set).map_err(|mistake| given.error(mistake))
}

fn unknown_variable(name: &str) -> Option<ConfigWarning> {
    if COMMAND_LINE_VARIABLES.contains(&name) {
        return None;
    }
    let known: Vec<String> = fields::names().map(env_name).collect();
    let message = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => {
            format!("the environment variable {name} is not known and has no effect; did you mean {near}?")
        }
        None => format!("the environment variable {name} is not known and has no effect"),
    };
    Some(ConfigWarning { message })
}
