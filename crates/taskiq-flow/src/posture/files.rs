//! Files that others on the machine may read or change.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Facts, Found};
use crate::config::{AuditTarget, StoreTarget};

/// The bits of `st_mode` that let everybody read, and everybody write.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

pub(super) fn readable_configuration(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let Some(file) = facts.file else { return Vec::new() };
    let Some(mode) = mode(file) else { return Vec::new() };
    let shown = file.display();
    if mode & OTHERS_WRITE != 0 {
        let what = format!("everybody on this machine may change {shown}, and with it who may do what");
        return vec![Found::high("(file)", what)];
    }
    let secrets = config.jwt_secret.is_some() || !config.api_keys.is_empty();
    if mode & OTHERS_READ == 0 || !secrets {
        return Vec::new();
    }
    let raw = config.jwt_secret.is_some() || config.api_keys.has_raw();
    let what = format!("everybody on this machine may read {shown}");
    match raw {
        true => vec![Found::high("(file)", format!("{what}, which holds a secret or a key"))],
        false => vec![Found::low("(file)", format!("{what}, which says what keys there are"))],
    }
}

pub(super) fn readable_tls_key(facts: &Facts<'_>) -> Vec<Found> {
    let Some(file) = &facts.config.tls_key else { return Vec::new() };
    match mode(file) {
        Some(mode) if mode & (OTHERS_READ | OTHERS_WRITE) != 0 => {
            let what = format!("everybody on this machine may read or change {}", file.display());
            vec![Found::high("tls_key", what)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn readable_signing_key(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let keys = [
        ("audit_signing_key", &config.audit_signing_key),
        ("audit_previous_signing_key", &config.audit_previous_signing_key),
    ];
    let open = keys.into_iter().filter_map(|(field, file)| {
        let file = file.as_ref()?;
        let open = mode(file)? & (OTHERS_READ | OTHERS_WRITE) != 0;
        let what = format!("everybody on this machine may read or change {}", file.display());
        open.then(|| Found::high(field, what))
    });
    open.collect()
}

pub(super) fn open_records(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let audit = config.audit_log.targets().iter().filter_map(|target| match target {
        AuditTarget::File(path) | AuditTarget::Export(_, path) => Some(("audit_log", path.clone())),
        AuditTarget::Stdout => None,
    });
    let store = match config.store_target() {
        Ok(StoreTarget::Sqlite { path }) => Some(("store_url", path)),
        _ => None,
    };
    let files: Vec<(&str, PathBuf)> = audit.chain(store).collect();
    files
        .iter()
        .filter_map(|(field, path)| {
            let mode = mode(path)?;
            let shown = path.display();
            if mode & OTHERS_WRITE != 0 {
                Some(Found::high(*field, format!("everybody on this machine may change {shown}")))
            } else if mode & OTHERS_READ != 0 {
                Some(Found::low(*field, format!("everybody on this machine may read {shown}")))
            } else {
                None
            }
        })
        .collect()
}

/// The permission bits of a regular file; nothing for devices, and for what is not there yet.
fn mode(path: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then(|| metadata.permissions().mode())
}
