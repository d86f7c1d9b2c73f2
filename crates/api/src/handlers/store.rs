//! `/store/backup`: a copy of the store.

use std::path::Path;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_security::audit::{AuditEvent, Outcome};
use taskiq_flow_security::guard::Note;
use utoipa::ToSchema;

use super::{Allowed, Caller};
use crate::input::OptionalBody;
use crate::problem::Problem;
use crate::state::AppState;

/// The longest name of a copy, in bytes; the name that it has until it is whole is longer.
const MAX_NAME: usize = 128;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// What the copy is called: letters, digits and `-_.`, the first of them no dot. Made of the time unless said.
    #[schema(max_length = 128, pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")]
    name: Option<String>,
    /// Whether an earlier copy of that name makes way.
    #[serde(default)]
    replace: bool,
}

/// A copy that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub(crate) struct BackupDocument {
    /// What it is called, in the directory `backup_dir` of the server.
    name: String,
    /// Its length.
    bytes: u64,
}

/// Copies the store to a file in the server's `backup_dir`, while runs go on.
///
/// The copy is on disk, whole, when this is answered, and has every run that was acknowledged before it was asked for.
#[utoipa::path(
    post, path = "/store/backup", tag = "security", request_body = inline(Option<BackupRequest>),
    responses((status = 201, body = BackupDocument)),
)]
pub(crate) async fn backup_store(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(_permit): Allowed,
    OptionalBody(request): OptionalBody<BackupRequest>,
) -> Result<(StatusCode, Json<BackupDocument>), Problem> {
    let Some(directory) = state.options().backup_dir.clone() else {
        return Err(Problem::conflict(
            "No directory for copies of the store is configured: set `backup_dir`.",
        ));
    };
    let name = request.name.unwrap_or_else(made_up);
    check(&name).map_err(|what| Problem::invalid_field("name", what))?;
    let (target, most) = (directory.join(Path::new(&name)), state.options().max_backups);
    let wanted = target.clone();
    let full = tokio::task::spawn_blocking(move || is_full(&directory, &wanted, most)).await;
    if full.map_err(Problem::internal)? {
        return Err(Problem::conflict(format!(
            "The directory for copies of the store holds {most} files already, as many as it may (`max_backups`): remove old \
             ones, or replace one by its name."
        )));
    }
    let note = |outcome| {
        let detail = Some(name.as_str());
        let note = Note { action: Some("backup_store"), detail, outcome, ..Note::default() };
        state.guard().note(&caller, AuditEvent::StoreBackup, note)
    };
    note(None)?;
    // Whoever hangs up does not break it off half way.
    let engine = state.engine().clone();
    let copied = tokio::spawn(async move { engine.backup(&target, request.replace).await }).await;
    match copied {
        Ok(Ok(bytes)) => Ok((StatusCode::CREATED, Json(BackupDocument { name, bytes }))),
        Ok(Err(error)) => {
            let _ = note(Some(Outcome::Failure));
            Err(error.into())
        }
        Err(error) => {
            let _ = note(Some(Outcome::Failure));
            Err(Problem::internal(error))
        }
    }
}

/// A name that leads nowhere but into the directory.
fn check(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!("expected 1 to {MAX_NAME} letters, digits and `-_.`, the first of them no dot"))
}

/// Whether the directory has as many files as it may, and none at `target`. What cannot be read is left to who writes there.
fn is_full(directory: &Path, target: &Path, most: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    // What `store check` of a copy leaves is none.
    let copies = entries.filter(|entry| {
        !entry.as_ref().is_ok_and(|entry| entry.file_name().as_encoded_bytes().ends_with(b".lock"))
    });
    copies.take(most).count() == most && target.symlink_metadata().is_err()
}

fn made_up() -> String {
    let digits = |c: &char| c.is_ascii_alphanumeric();
    let time: String = Timestamp::now().to_string().chars().filter(digits).collect();
    format!("taskiq-flow-{time}.db")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "nightly.db", "2027-01-31_a.b.c", &"a".repeat(MAX_NAME), &made_up()] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\0", "a b", "ä", "a\n", "~"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"a".repeat(MAX_NAME + 1)).is_err());
    }
}
