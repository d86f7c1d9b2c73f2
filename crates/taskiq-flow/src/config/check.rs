//! What no type can say: values that do not fit each other, and what this version cannot do.

use std::collections::BTreeMap;

use taskiq_flow_api::routes::ROUTES;
use taskiq_flow_core::definition::{Amount, Priority};
use taskiq_flow_security::settings::{Settings, SettingsError};

use super::audit;
use super::convert::{rate_limit_storage, store_target};
use super::fields::{self, TaskiqFlowConfig};
use super::mistake::{Found, Mistake, Segment, at};
use super::types::ResourceAmount;
use super::webhooks::webhooks;

/// Every path is also served behind this.
const API: &str = "api";
const MAX_RETENTION_DAYS: u32 = 36_500;

impl TaskiqFlowConfig {
    /// Every check there is. What this version cannot do yet is refused here: a setting without effect would be worse.
    pub(super) fn check(&self) -> Result<(), Found> {
        self.check_supported()?;
        at("host", check_host(&self.host))?;
        self.check_tls()?;
        at("max_connections", check_positive(self.max_connections))?;
        at("max_connections_per_address", check_positive(self.max_connections_per_address))?;
        at("max_body_bytes", check_positive(self.max_body_bytes))?;
        at("max_concurrent_runs", check_positive(self.max_concurrent_runs))?;
        at("max_queued_runs", check_positive(self.max_queued_runs))?;
        at("max_backups", check_positive(self.max_backups))?;
        let priorities = u32::from(Priority::default().get())..=u32::from(Priority::MAX.get());
        if !priorities.contains(&self.max_priority) {
            let (lowest, highest, found) = (priorities.start(), priorities.end(), self.max_priority);
            return at(
                "max_priority",
                Err(Mistake::must(format!("be from {lowest} to {highest}, found {found}"))),
            );
        }
        at("max_concurrent_attempts", check_positive(self.max_concurrent_attempts))?;
        at("resources", check_resources(&self.resources))?;
        if self.retention_days > MAX_RETENTION_DAYS {
            let found = self.retention_days;
            let mistake = Mistake::must(format!("be at most {MAX_RETENTION_DAYS}, found {found}"))
                .help("0 keeps runs for ever");
            return at("retention_days", Err(mistake));
        }
        at("metrics_path", check_metrics_path(&self.metrics_path))?;
        at("log_level", check_log_level(&self.log_level))?;
        audit::options(self)?;
        if self.jwt_algorithms.as_ref().is_some_and(Vec::is_empty) {
            let mistake =
                Mistake::is("is empty: no token could be checked").help("leave it out, or name an algorithm");
            return at("jwt_algorithms", Err(mistake));
        }
        at("rate_limit_storage", rate_limit_storage(self).map(drop))?;
        at("store_url", store_target(self).map(drop))?;
        at("webhooks", webhooks(self).map(drop))?;
        self.settings().map(drop)
    }

    /// Settings for the security crate, which checks everything that is its own.
    pub(super) fn settings(&self) -> Result<Settings, Found> {
        let mut keys: Vec<&str> = self.api_keys.texts().collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            let mistake = Mistake::is("has one key twice").help("remove one of the two entries");
            return at("api_keys", Err(mistake));
        }
        self.to_security_options().build().map_err(|error| self.found(&error))
    }

    fn check_tls(&self) -> Result<(), Found> {
        let set = |field, other, needed: bool, there: bool| match needed && !there {
            true => at(
                field,
                Err(Mistake::is(format!("is set without `{other}`"))
                    .help(format!("set `{other}` too, or neither"))),
            ),
            false => Ok(()),
        };
        let (cert, key, ca) = (self.tls_cert.is_some(), self.tls_key.is_some(), self.tls_client_ca.is_some());
        set("tls_cert", "tls_key", cert, key)?;
        set("tls_key", "tls_cert", key, cert)?;
        set("tls_client_ca", "tls_cert", ca, cert)
    }

    fn check_supported(&self) -> Result<(), Found> {
        at("broker_url", check_broker(&self.broker_url.scheme()))
    }

    fn found(&self, error: &SettingsError) -> Found {
        let path = error.field();
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (root, rest) = path.split_at(end);
        // The security crate names its fields as the configuration does; a test goes through them.
        let field = fields::field(root).map_or("security_enabled", |field| field.name);
        let mut mistake = Mistake::says(error.message());
        mistake.path = segments(rest);
        if let ("api_keys", Some(Segment::Name(id))) = (field, mistake.path.first())
            && let Some(index) = self.api_keys.entries().position(|entry| entry.id.as_ref() == Some(id))
        {
            mistake.path[0] = Segment::Entry(index);
        }
        Found { field, mistake }
    }
}

/// The steps of a path such as `.etl.read` or `[1].pem`.
fn segments(path: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((index, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'))
            && let Ok(index) = index.parse()
        {
            segments.push(Segment::Item(index));
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = rest.find(['.', '[']).unwrap_or(rest.len()).max(1).min(rest.len());
        let end = (end..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        segments.push(Segment::Name(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    segments
}

fn check_host(host: &str) -> Result<(), Mistake> {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_name = host.len() <= 253 && host.trim_end_matches('.').split('.').all(label);
    if is_address || is_name {
        return Ok(());
    }
    let mistake = Mistake::must(format!("be an IP address or a host name, found {host:?}"));
    Err(match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => {
            mistake.help("the port has a field of its own, `port`")
        }
        _ if host.starts_with('[') => mistake.help("write the address without brackets"),
        _ => mistake.help("0.0.0.0 listens on every IPv4 address, :: on every address"),
    })
}

fn check_positive(number: usize) -> Result<(), Mistake> {
    if number > 0 { Ok(()) } else { Err(Mistake::must("be at least 1, found 0")) }
}

fn check_resources(resources: &BTreeMap<String, ResourceAmount>) -> Result<(), Mistake> {
    for (name, amount) in resources {
        if name.trim().is_empty() {
            return Err(Mistake::is("has a resource without a name"));
        }
        if let Err(error) = Amount::parse(name, amount.as_str()) {
            let mut mistake = Mistake::says(error.to_string());
            mistake.path = vec![Segment::Name(name.clone())];
            return Err(mistake);
        }
    }
    Ok(())
}

/// What the paths that the server answers itself begin with.
fn own_paths() -> impl Iterator<Item = &'static str> {
    let others = ROUTES.iter().filter(|route| route.name != "metrics");
    others.flat_map(|route| route.paths).filter_map(|path| path.split('/').nth(1))
}

fn check_metrics_path(path: &str) -> Result<(), Mistake> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    let Some(rest) = path.strip_prefix('/').filter(|rest| rest.bytes().all(allowed)) else {
        let message = format!(
            "start with `/` and have only letters, digits, `/`, `-`, `_`, `.` and `~`, found {path:?}"
        );
        return Err(Mistake::must(message));
    };
    let first = rest.split('/').next().unwrap_or_default();
    if first.is_empty() || first == API || own_paths().any(|own| own == first) {
        return Err(Mistake::is(format!("is {path:?}, where the server answers something else"))
            .help("write \"/metrics\""));
    }
    Ok(())
}

fn check_log_level(text: &str) -> Result<(), Mistake> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text.trim()));
    let is_target = |text: &str| {
        let text = text.trim();
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b'.'))
    };
    for directive in text.split(',') {
        let good = match directive.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(directive),
        };
        if !good {
            let mistake = Mistake::must(format!(
                "be a level such as \"info\", or several such as \"info,name=debug\", found {text:?}"
            ));
            return Err(mistake.help(format!("the levels are {}", LEVELS.join(", "))));
        }
    }
    Ok(())
}

fn check_broker(scheme: &str) -> Result<(), Mistake> {
    let planned = match scheme {
        "memory" => return Ok(()),
        "redis" | "rediss" => "Redis",
        "nats" => "NATS",
        "amqp" | "amqps" => "RabbitMQ",
        _ => {
            return Err(Mistake::must("be \"memory:\"")
                .help("this version carries tasks out within the server itself"));
        }
    };
    Err(Mistake::is(format!("names {planned}, but this version does not carry tasks over it"))
        .help("write \"memory:\": tasks are carried out within the server itself"))
}
