//! The network side: TLS, proxies, limits, what is shown.

use ipnet::IpNet;
use taskiq_flow_security::guard::endpoint;

use super::{Facts, Found};
use crate::config::ServiceUrl;

/// A limit above so many requests a minute limits nobody.
const HUGE_PER_MINUTE: f64 = 10_000.0;
/// Starting more runs a minute than this is a flood for most installations.
const MANY_RUNS_PER_MINUTE: f64 = 1_000.0;
/// A body above this many bytes costs memory for each request under way.
const LARGE_BODY: usize = 16 << 20;

pub(super) fn no_tls(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    if !facts.is_exposed() || config.tls_cert.is_some() || !facts.settings.require_https() {
        return Vec::new();
    }
    let what = format!(
        "`{}` can be reached from elsewhere and does not speak TLS: requests pass only by a trusted proxy",
        config.host
    );
    vec![Found::low("tls_cert", what)]
}

pub(super) fn wide_proxies(facts: &Facts<'_>) -> Vec<Found> {
    let wide = |network: &IpNet| match network {
        // A whole private range is somebody's network, the Internet's ranges are everybody's.
        IpNet::V4(net) => net.prefix_len() < 16 && !net.addr().is_loopback(),
        IpNet::V6(net) => net.prefix_len() < 48,
    };
    let networks = facts.config.trusted_proxies.iter();
    let wide = networks.filter(|network| network.prefix_len() > 0 && wide(network));
    wide.map(|network| {
        let what = format!(
            "{network} is a large network: each of its addresses may claim any client address and HTTPS"
        );
        Found::medium("trusted_proxies", what)
    })
    .collect()
}

pub(super) fn lenient_proto(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let beyond = config.trusted_proxies.iter().any(|network| !network.addr().is_loopback());
    if !beyond || config.strict_forwarded_proto || !facts.settings.require_https() {
        return Vec::new();
    }
    let what = "a WebSocket that a proxy passes on without X-Forwarded-Proto counts as secure";
    vec![Found::low("strict_forwarded_proto", what)]
}

pub(super) fn plain_origins(facts: &Facts<'_>) -> Vec<Found> {
    let local = |origin: &str| {
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| origin.contains(&format!("://{host}")))
    };
    let origins = facts.settings.allowed_origins().iter();
    let plain =
        origins.filter(|origin| origin.starts_with("http://") && (!local(origin) || facts.is_exposed()));
    plain
        .map(|origin| {
            let what =
                format!("{origin} is a page without TLS: who can change it on the way acts as its users");
            Found::medium("allowed_origins", what)
        })
        .collect()
}

pub(super) fn huge_limits(facts: &Facts<'_>) -> Vec<Found> {
    if !facts.settings.rate_limits_enforced() {
        return Vec::new();
    }
    let most = |endpoint: &str| match endpoint {
        endpoint::EXECUTE_PIPELINE => MANY_RUNS_PER_MINUTE,
        _ => HUGE_PER_MINUTE,
    };
    // The default is what endpoints without a limit of their own have.
    let named = facts.config.rate_limits.keys().map(|name| (format!("rate_limits.{name}"), name.as_str()));
    let all = named.chain([("rate_limit_default".to_owned(), endpoint::ME)]);
    let default_replaced = facts.config.rate_limits.contains_key(endpoint::ME);
    let mut found = Vec::new();
    for (field, endpoint) in all {
        if field == "rate_limit_default" && default_replaced {
            continue;
        }
        let limit = facts.settings.limit_of(endpoint);
        let rates = limit.quotas().map(|quota| quota.burst() as f64 * 60.0 / quota.period().as_secs_f64());
        let slowest = rates.fold(f64::INFINITY, f64::min);
        if slowest > most(endpoint) {
            let what =
                format!("{limit} allows {slowest:.0} requests a minute from each client: it limits nobody");
            found.push(Found::low(field, what));
        }
    }
    found
}

pub(super) fn limits_apart(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let shared = |url: &ServiceUrl| !matches!(url.scheme().as_str(), "memory" | "sqlite");
    let several = shared(&config.store_url) || shared(&config.broker_url);
    if !several || config.rate_limit_storage.scheme() != "memory" || !facts.settings.rate_limits_enforced() {
        return Vec::new();
    }
    let what = "each replica counts for itself: with n of them a client has n times the limit";
    vec![Found::medium("rate_limit_storage", what)]
}

pub(super) fn plain_services(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let services = [("rate_limit_storage", &config.rate_limit_storage), ("broker_url", &config.broker_url)];
    let plain = |url: &ServiceUrl| matches!(url.scheme().as_str(), "redis" | "nats" | "amqp" | "http");
    let elsewhere = |url: &ServiceUrl| host_of(url).is_some_and(|host| !is_local(host));
    let found = services.into_iter().filter(|(_, url)| plain(url) && elsewhere(url));
    found
        .map(|(field, url)| {
            let what = format!("{} is asked without TLS, over the network", url.redacted());
            Found::medium(field, what)
        })
        .collect()
}

pub(super) fn remote_commands(facts: &Facts<'_>) -> Vec<Found> {
    if !facts.config.allow_remote_commands {
        return Vec::new();
    }
    let what = "whoever has `admin` on a pipeline can run any program as the server's user";
    vec![Found::high("allow_remote_commands", what)]
}

pub(super) fn open_metrics(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    if !config.metrics_enabled || !facts.is_exposed() {
        return Vec::new();
    }
    let what = format!("{} is served on the listener that clients use", config.metrics_path);
    vec![Found::low("metrics_enabled", what)]
}

pub(super) fn talkative_log(facts: &Facts<'_>) -> Vec<Found> {
    let level = &facts.config.log_level;
    let low = level.to_ascii_lowercase();
    if !low.contains("debug") && !low.contains("trace") {
        return Vec::new();
    }
    vec![Found::low("log_level", format!("`{level}` is for looking for mistakes, not for every day"))]
}

pub(super) fn large_bodies(facts: &Facts<'_>) -> Vec<Found> {
    let bytes = facts.config.max_body_bytes;
    if bytes <= LARGE_BODY {
        return Vec::new();
    }
    let what = format!("bodies of up to {} MiB are read into memory", bytes >> 20);
    vec![Found::low("max_body_bytes", what)]
}

/// The host of an address, without user, password and port.
fn host_of(url: &ServiceUrl) -> Option<&str> {
    let (_, rest) = url.expose().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next(),
        None => host.split(':').next(),
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
