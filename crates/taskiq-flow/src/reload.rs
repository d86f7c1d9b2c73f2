//! The configuration of a running server, read again from where it came.

use std::sync::Arc;

use taskiq_flow_api::problem::FieldProblem;
use taskiq_flow_api::{AppState, FreshSettings, ReloadError, Reloaded, SettingsSource};

use crate::config::{ConfigError, Sources, TaskiqFlowConfig};

/// Has a running server read its configuration again.
#[derive(Debug, Clone)]
pub struct Reload(pub(crate) AppState);

/// The sources of a server, and what it runs with.
#[derive(Debug)]
pub(crate) struct ConfigSource {
    sources: Sources,
    running: TaskiqFlowConfig,
}

impl Reload {
    /// Puts the security settings of the configuration in force as it is now, all of them or none.
    ///
    /// # Errors
    /// [`ReloadError`]: everything is as it was.
    pub async fn settings(&self) -> Result<Reloaded, ReloadError> {
        self.0.reload(None).await
    }
}

impl ConfigSource {
    /// The source of a server that runs with this.
    pub(crate) fn of(sources: Sources, running: TaskiqFlowConfig) -> Arc<dyn SettingsSource> {
        Arc::new(Self { sources, running })
    }
}

impl SettingsSource for ConfigSource {
    fn read(&self) -> Result<FreshSettings, Vec<FieldProblem>> {
        let loaded = self.sources.load().map_err(|error| vec![mistake(&error)])?;
        let settings = loaded.security_settings().map_err(|error| vec![mistake(&error)])?;
        let (running, fresh) = (self.running.redacted(), loaded.config.redacted());
        let mut pending: Vec<String> = fresh
            .iter()
            .filter(|(field, value)| {
                settings.redacted().get(field).is_none() && running.get(*field) != Some(*value)
            })
            .map(|(field, _)| field.clone())
            .collect();
        // Another secret or address does not show.
        let webhooks = "webhooks".to_owned();
        if self.running.webhooks != loaded.config.webhooks && !pending.contains(&webhooks) {
            pending.push(webhooks);
        }
        Ok(FreshSettings { settings, pending })
    }
}

/// The mistake with its place, which a log shows on one line.
fn mistake(error: &ConfigError) -> FieldProblem {
    let diagnostic = error.diagnostic();
    let source = diagnostic.source_name();
    let place = match (diagnostic.line(), diagnostic.column()) {
        (Some(line), Some(column)) => format!("{source}:{line}:{column}"),
        _ => source.to_owned(),
    };
    FieldProblem {
        field: error.field().unwrap_or("(file)").to_owned(),
        message: format!("{} [{place}]", error.message()),
        help: error.diagnostic().help_text().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of both is the same.
    #[test]
    fn another_secret_of_a_webhook_waits_for_a_restart() {
        let sources = |secret: &str| {
            let webhook = format!(
                r#"[{{"name": "ops", "url": "https://a.example/x", "secret": "{secret}", "events": ["*"], "pipelines": []}}]"#
            );
            Sources::default().env([("TASKIQ_FLOW_WEBHOOKS", webhook.as_str())])
        };
        let running = sources("a secret of some length").load().unwrap().config;
        for (secret, expected) in
            [("a secret of some length", vec![]), ("another secret of it", vec!["webhooks"])]
        {
            let source = ConfigSource { sources: sources(secret), running: running.clone() };
            let pending = source.read().unwrap_or_else(|mistakes| panic!("{mistakes:?}")).pending;
            assert_eq!(pending, expected);
        }
    }
}
