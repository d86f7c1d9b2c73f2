//! What is written down, and how long it is kept.

use super::{Facts, Found};
use crate::config::{AuditMode, AuditTarget};

/// Keeping runs for more than this many days is keeping them because nobody thought of it.
const LONG_RETENTION_DAYS: u32 = 400;

pub(super) fn no_audit(facts: &Facts<'_>) -> Vec<Found> {
    match facts.config.audit_log.targets() {
        [] => vec![Found::medium("audit_log", "nothing is recorded: who did what is not known afterwards")],
        _ => Vec::new(),
    }
}

pub(super) fn audit_without_file(facts: &Facts<'_>) -> Vec<Found> {
    let targets = facts.config.audit_log.targets();
    let to_file = targets.iter().any(|target| matches!(target, AuditTarget::File(_)));
    if targets.is_empty() || to_file {
        return Vec::new();
    }
    let what = "records go to standard output alone: the server can neither show nor verify them";
    vec![Found::low("audit_log", what)]
}

pub(super) fn audit_unsigned(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let to_file = config.audit_log.targets().iter().any(|target| matches!(target, AuditTarget::File(_)));
    if !to_file || config.audit_signing_key.is_some() {
        return Vec::new();
    }
    let what = "no checkpoints are signed: whoever may write the file can write all of it anew, unnoticed";
    vec![Found::low("audit_signing_key", what)]
}

pub(super) fn audit_best_effort(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    if config.audit_log.targets().is_empty() || config.audit_mode == AuditMode::Required {
        return Vec::new();
    }
    let what = "requests are served while they cannot be recorded (the gap is marked)";
    vec![Found::low("audit_mode", what)]
}

pub(super) fn long_retention(facts: &Facts<'_>) -> Vec<Found> {
    let what = match facts.config.retention_days {
        0 => "runs, with their parameters and results, are kept for ever".to_owned(),
        days if days > LONG_RETENTION_DAYS => {
            format!("runs, with their parameters and results, are kept for {days} days")
        }
        _ => return Vec::new(),
    };
    vec![Found::low("retention_days", what)]
}
