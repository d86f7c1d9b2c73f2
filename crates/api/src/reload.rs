//! Reading the configuration again while the server runs: all of its security settings are put in force, or none.

use taskiq_flow_security::Admission;
use taskiq_flow_security::administration::AdministrationError;
use taskiq_flow_security::audit::{AuditEntry, AuditEvent, Outcome};
use taskiq_flow_security::guard::Note;

use crate::problem::FieldProblem;
use crate::source::FreshSettings;
use crate::state::AppState;

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The names of the fields that changed.
    pub changed: Vec<String>,
    /// The names of fields that changed and wait for a restart.
    pub pending: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The server was put together by a program.
    #[error("this server was not started from a configuration that could be read again")]
    NoSource,
    /// The configuration cannot be used.
    #[error("the configuration cannot be used: {}", list(.0))]
    Configuration(Vec<FieldProblem>),
    /// The settings contradict what was set over the API, or the change cannot be recorded.
    #[error(transparent)]
    Administration(#[from] AdministrationError),
    /// The reading was broken off.
    #[error("the configuration could not be read: {0}")]
    Broken(String),
}

impl AppState {
    /// Reads the configuration again and puts its security settings in force: they act on the next request and on open
    /// sockets. `by` is who asked, `None` for a signal. What is done, or why it is not, is recorded.
    ///
    /// # Errors
    /// [`ReloadError`]: everything is as it was.
    pub async fn reload(&self, by: Option<&Admission>) -> Result<Reloaded, ReloadError> {
        let Some(source) = self.options().settings_source.clone() else { return Err(ReloadError::NoSource) };
        let _turn = self.reloading().await;
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let read = read.map_err(|error| ReloadError::Broken(error.to_string()))?;
        let FreshSettings { settings, pending } = match read {
            Ok(fresh) => fresh,
            Err(mistakes) => {
                let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
                self.note_refusal(by, &format!("refused for: {}", fields.join(", ")));
                return Err(ReloadError::Configuration(mistakes));
            }
        };
        let changed = self.administration().reload(settings, by).await?;
        Ok(Reloaded { changed, pending })
    }

    fn note_refusal(&self, by: Option<&Admission>, detail: &str) {
        let event = AuditEvent::SecurityConfigChange;
        let recorded = match by {
            Some(by) => {
                let note = Note {
                    action: Some("reload"),
                    outcome: Some(Outcome::Failure),
                    detail: Some(detail),
                    ..Note::default()
                };
                self.guard().note(by, event, note).map_err(|refusal| refusal.reason().to_owned())
            }
            None => {
                let mut entry = AuditEntry::new(event, Outcome::Failure);
                entry.action = Some("reload".into());
                entry.detail = Some(detail.to_owned().into());
                self.guard().audit().record(entry).map(drop).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = recorded {
            tracing::error!(error, "a refused reload could not be recorded");
        }
    }
}

fn list(mistakes: &[FieldProblem]) -> String {
    let texts = mistakes.iter().map(|mistake| {
        let help = mistake.help.as_deref().map_or_else(String::new, |help| format!(" ({help})"));
        format!("{}: {}{help}", mistake.field, mistake.message)
    });
    texts.collect::<Vec<_>>().join("; ")
}
