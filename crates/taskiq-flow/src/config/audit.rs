//! The audit log as the security crate is given it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use taskiq_flow_security::audit::{
    AuditMode, AuditOptions, AuditSink, CheckpointOptions, CheckpointTarget, SigningKey, is_origin,
};

use super::audit_log::AuditTarget;
use super::fields::TaskiqFlowConfig;
use super::mistake::{Found, Mistake, Segment, at};
use super::types;

/// A checkpoint comes at the latest after so many records.
const CHECKPOINT_RECORDS: u64 = 10_000;
const MAX_CHECKPOINT_SECONDS: u32 = 86_400;

/// Everything, the keys read from their files.
pub(super) fn options(config: &TaskiqFlowConfig) -> Result<AuditOptions, Found> {
    let mode = match config.audit_mode {
        types::AuditMode::BestEffort => AuditMode::BestEffort,
        types::AuditMode::Required => AuditMode::Required,
    };
    let flood = match config.audit_flood_limit.trim() {
        "" => None,
        text => {
            let limit = text.parse().map_err(|error| Mistake::says(format!("{error}")));
            Some(at("audit_flood_limit", limit)?)
        }
    };
    let sinks: Vec<AuditSink> = config.audit_log.targets().iter().map(sink).collect();
    if mode == AuditMode::Required && sinks.iter().all(|sink| matches!(sink, AuditSink::Export(..))) {
        let mistake = Mistake::is(
            "is \"required\", but `audit_log` names no place for records: nothing could be recorded",
        )
        .help("name a file in `audit_log`, or set `audit_mode` to \"best_effort\"");
        return at("audit_mode", Err(mistake));
    }
    Ok(AuditOptions { sinks, mode, flood, checkpoints: checkpoints(config)? })
}

fn sink(target: &AuditTarget) -> AuditSink {
    match target {
        AuditTarget::Stdout => AuditSink::Stdout,
        AuditTarget::File(path) => AuditSink::File(path.clone()),
        AuditTarget::Export(format, path) => AuditSink::Export(*format, path.clone()),
    }
}

fn checkpoints(config: &TaskiqFlowConfig) -> Result<Option<CheckpointOptions>, Found> {
    let target = |(index, text): (usize, &String)| {
        CheckpointTarget::parse(text)
            .map_err(|error| Mistake::says(error.to_string()).under(Segment::Item(index)))
    };
    let named = config.audit_checkpoints.as_slice().iter().enumerate();
    let targets = at("audit_checkpoints", named.map(target).collect::<Result<Vec<_>, _>>())?;
    if !is_origin(&config.audit_origin) {
        let mistake = Mistake::must("be a name without spaces and `+`, such as \"flow.example.com/audit\"");
        return at("audit_origin", Err(mistake));
    }
    let seconds = config.audit_checkpoint_seconds;
    if seconds == 0 || seconds > MAX_CHECKPOINT_SECONDS {
        let mistake = Mistake::must(format!("be from 1 to {MAX_CHECKPOINT_SECONDS}, found {seconds}"));
        return at("audit_checkpoint_seconds", Err(mistake));
    }
    let Some(key) = &config.audit_signing_key else {
        if !targets.is_empty() {
            let mistake = Mistake::is("names targets, but there is no key to sign with").help(
                "make one with `taskiq-flow audit keygen --out FILE`, and name it in `audit_signing_key`",
            );
            return at("audit_checkpoints", Err(mistake));
        }
        if config.audit_previous_signing_key.is_some() {
            let mistake = Mistake::is("is set without the key that took its place")
                .help("name that one in `audit_signing_key`");
            return at("audit_previous_signing_key", Err(mistake));
        }
        return Ok(None);
    };
    if targets.is_empty() {
        let mistake = Mistake::is("is set, but `audit_checkpoints` is empty: what it signs would go nowhere")
            .help("name a file or an address there, best on another machine");
        return at("audit_signing_key", Err(mistake));
    }
    let is_file = |target: &AuditTarget| matches!(target, AuditTarget::File(_));
    if !config.audit_log.targets().iter().any(is_file) {
        let mistake = Mistake::is("is set, but `audit_log` names no file: checkpoints are made of one")
            .help("name a file in `audit_log`");
        return at("audit_signing_key", Err(mistake));
    }
    let previous = config.audit_previous_signing_key.as_deref();
    Ok(Some(CheckpointOptions {
        origin: config.audit_origin.clone(),
        key: at("audit_signing_key", signing_key(key))?,
        previous: at("audit_previous_signing_key", previous.map(signing_key).transpose())?,
        targets,
        every: Duration::from_secs(u64::from(seconds)),
        records: CHECKPOINT_RECORDS,
    }))
}

fn signing_key(path: &Path) -> Result<Arc<SigningKey>, Mistake> {
    let unread = |error: std::io::Error| Mistake::is(format!("cannot be read: {}: {error}", path.display()));
    let text = SecretString::from(std::fs::read_to_string(path).map_err(unread)?);
    let key = SigningKey::from_pem(text.expose_secret());
    key.map(Arc::new).map_err(|error| Mistake::says(format!("{}: {error}", path.display())))
}
