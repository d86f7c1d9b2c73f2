//! The configuration, read again while the server runs.

use taskiq_flow::config::{ConfigError, Sources};
use taskiq_flow::security::Guard;
use tokio::signal::unix::{SignalKind, signal};

/// On each SIGHUP reads the configuration again and puts its security settings in force: keys, roles, ACLs, limits,
/// HTTPS and origins. They act on the next request and on open sockets. The rest (addresses, store, audit log) stays
/// as it is until a restart. Never ends; dropping it ends it.
pub(crate) async fn on_hangup(sources: &Sources, guard: &Guard) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => {
            while hangups.recv().await.is_some() {
                reload(sources, guard);
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be received: the configuration is not read again")
        }
    }
    std::future::pending().await
}

/// What cannot be read, checked or recorded changes nothing: the settings that were in force go on.
fn reload(sources: &Sources, guard: &Guard) {
    let settings = sources.load().and_then(|loaded| loaded.security_settings());
    match settings.map(|settings| guard.reload(settings, None)) {
        Ok(Ok(())) => tracing::info!("the security settings were read again"),
        Ok(Err(refusal)) => {
            tracing::error!(reason = refusal.reason(), "the security settings were not changed");
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ConfigError) {
    tracing::error!(
        error = error.render(false),
        "the configuration cannot be used; the security settings were not changed"
    );
}
