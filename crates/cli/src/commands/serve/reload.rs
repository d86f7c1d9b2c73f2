//! The configuration, read again while the server runs.

use taskiq_flow::config::Sources;
use taskiq_flow::{Reload, TlsReloader};
use tokio::signal::unix::{SignalKind, signal};

/// On each SIGHUP reads the configuration again and puts its security settings in force: keys, roles, ACLs, limits,
/// HTTPS and origins. Keys and access lists that were made over the API stay. They act on the next request and on open
/// sockets. The files of TLS are read again, too. The rest (addresses, store, audit log) stays as it is until a restart.
/// Never ends; dropping it ends it.
pub(crate) async fn on_hangup(sources: &Sources, settings: &Reload, tls: Option<&TlsReloader>) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => {
            while hangups.recv().await.is_some() {
                reload(sources, settings, tls).await;
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be received: the configuration is not read again")
        }
    }
    std::future::pending().await
}

/// What cannot be read, checked or recorded changes nothing: the settings that were in force go on. Settings and
/// certificate do not hold up each other: a key can be revoked while a certificate is broken.
async fn reload(sources: &Sources, settings: &Reload, tls: Option<&TlsReloader>) {
    match settings.settings().await {
        Ok(reloaded) => {
            tracing::info!(changed = reloaded.changed.join(", "), "the security settings were read again");
            if !reloaded.pending.is_empty() {
                let fields = reloaded.pending.join(", ");
                tracing::warn!(fields, "these changed in the configuration and wait for a restart");
            }
        }
        Err(error) => tracing::error!(%error, "the security settings were not changed"),
    }
    // What is wrong with it has been said.
    let Ok(loaded) = sources.load() else { return };
    match (tls, loaded.config.tls_files()) {
        // What went wrong has been logged and recorded.
        (Some(tls), Some(files)) => drop(tls.reload(files).await),
        (None, None) => {}
        _ => tracing::warn!("TLS is turned on and off by a restart only; nothing was changed about it"),
    }
}
