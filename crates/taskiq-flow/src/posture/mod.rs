//! How safe a configuration is, or a running server as somebody outside sees it: one list of checks, each with what it looks
//! for, how much it matters, the requirements it comes from and the fix.
//!
//! The server shows at its start what the checks find, `taskiq-flow security check` all of it with a score, and
//! `docs/guide/hardening.md` the list itself. Requirements are those of the OWASP Application Security Verification
//! Standard 5.0 ([`Check::asvs`]) and the OWASP API Security Top 10 of 2023 ([`Check::api_top10`]).
//!
//! ```
//! use taskiq_flow::TaskiqFlowConfig;
//! use taskiq_flow::posture::{Facts, Severity, look};
//!
//! let config = TaskiqFlowConfig::builder().security_enabled(false).build();
//! let settings = config.security_settings()?;
//! let posture = look(&Facts::new(&config, &settings));
//! assert_eq!((posture.findings[0].check.id, posture.worst()), ("security-off", Some(Severity::High)));
//! assert!(posture.score() < 100);
//! # Ok::<(), taskiq_flow::config::ConfigError>(())
//! ```

mod access;
mod catalog;
mod exposure;
mod files;
pub mod outside;
mod record;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use taskiq_flow_security::settings::Settings;

use crate::config::TaskiqFlowConfig;

pub use self::catalog::CHECKS;
pub use self::outside::Outside;
pub use taskiq_flow_security::settings::Severity;

/// One thing that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name, which does not change.
    pub id: &'static str,
    /// What it finds.
    pub title: &'static str,
    /// The most it can matter.
    pub severity: Severity,
    /// Requirements of ASVS 5.0, such as `13.4.2`.
    pub asvs: &'static [&'static str],
    /// Risks of the API Security Top 10 of 2023, such as `API2`.
    pub api_top10: &'static [&'static str],
    /// What to do.
    pub fix: &'static str,
    look: Look,
    outside: Option<fn(&Outside) -> Vec<Found>>,
}

/// Where a check's findings come from.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// The security settings warn of it themselves, under this id.
    Settings,
    /// This finds it.
    Config(fn(&Facts<'_>) -> Vec<Found>),
    /// It cannot be seen in a configuration.
    Nowhere,
}

/// What checks look at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Facts<'a> {
    /// The configuration.
    pub config: &'a TaskiqFlowConfig,
    /// The same, checked.
    pub settings: &'a Settings,
    /// The file it was read from.
    pub file: Option<&'a Path>,
    /// The ids of the pipelines there are, where they are known.
    pub pipelines: Option<&'a [String]>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    severity: Severity,
    field: String,
    what: String,
}

/// A check that found something.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// How much it matters here.
    pub severity: Severity,
    /// The field to change, such as `api_keys.ops`.
    pub field: String,
    /// What was found. Never a secret.
    pub what: String,
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Posture {
    /// The gravest first; then in the order of the list.
    pub findings: Vec<Finding>,
    /// How many checks were made.
    pub checks: usize,
}

/// Finding as JSON.
#[derive(Debug, Serialize)]
struct FindingDocument<'a> {
    id: &'a str,
    severity: Severity,
    field: &'a str,
    what: &'a str,
    fix: &'a str,
    asvs: &'a [&'a str],
    api_top10: &'a [&'a str],
}

/// Makes every check of a configuration.
pub fn look(facts: &Facts<'_>) -> Posture {
    make(|check| match check.look {
        Look::Settings => Some(warned(facts, check.id)),
        Look::Config(look) => Some(look(facts)),
        Look::Nowhere => None,
    })
}

/// Makes every check of a running server that somebody outside can make.
pub fn look_from_outside(seen: &Outside) -> Posture {
    make(|check| check.outside.map(|look| look(seen)))
}

/// Makes those checks that find something or nothing; `None`: it is not made.
fn make(look: impl Fn(&'static Check) -> Option<Vec<Found>>) -> Posture {
    let mut posture = Posture::default();
    for check in CHECKS {
        let Some(found) = look(check) else { continue };
        posture.checks += 1;
        let finding =
            |found: Found| Finding { check, severity: found.severity, field: found.field, what: found.what };
        posture.findings.extend(found.into_iter().map(finding));
    }
    posture.findings.sort_by_key(|finding: &Finding| std::cmp::Reverse(finding.severity));
    posture
}

impl Check {
    /// Adds how somebody outside finds it.
    const fn seen(mut self, outside: fn(&Outside) -> Vec<Found>) -> Self {
        self.outside = Some(outside);
        self
    }

    /// Whether it is made of a configuration.
    pub fn is_of_configuration(&self) -> bool {
        !matches!(self.look, Look::Nowhere)
    }

    /// Whether it is made of a running server from outside.
    pub fn is_of_outside(&self) -> bool {
        self.outside.is_some()
    }
}

impl<'a> Facts<'a> {
    /// Of a configuration and the settings made of it.
    pub fn new(config: &'a TaskiqFlowConfig, settings: &'a Settings) -> Self {
        Self { config, settings, file: None, pipelines: None }
    }

    /// Read from this file.
    #[must_use]
    pub fn file(mut self, file: Option<&'a Path>) -> Self {
        self.file = file;
        self
    }

    /// With these pipelines.
    #[must_use]
    pub fn pipelines(mut self, ids: &'a [String]) -> Self {
        self.pipelines = Some(ids);
        self
    }

    /// Whether others than this machine can reach the listener.
    fn is_exposed(&self) -> bool {
        let host = self.config.host.as_str();
        let address = host.parse::<std::net::IpAddr>().map(|address| address.to_canonical().is_loopback());
        !address.unwrap_or(host == "localhost")
    }
}

impl Finding {
    /// Whether it is more than advice: a mistake, or a weakness. The server says so at its start.
    pub fn is_warning(&self) -> bool {
        matches!(self.check.look, Look::Settings) || self.severity != Severity::Low
    }
}

impl Posture {
    /// How grave the gravest finding is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(|finding| finding.severity)
    }

    /// 100 less 25 for each high, 8 for each medium and 1 for each low finding; at least 0. A figure to watch over
    /// time, and no more than that: what counts is the list.
    pub fn score(&self) -> u32 {
        let cost = |finding: &Finding| match finding.severity {
            Severity::High => 25,
            Severity::Medium => 8,
            Severity::Low => 1,
        };
        100_u32.saturating_sub(self.findings.iter().map(cost).sum())
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let document = |finding: &Finding| {
            let check = finding.check;
            json!(FindingDocument {
                id: check.id,
                severity: finding.severity,
                field: &finding.field,
                what: &finding.what,
                fix: check.fix,
                asvs: check.asvs,
                api_top10: check.api_top10,
            })
        };
        json!({
            "score": self.score(),
            "high": count(Severity::High),
            "medium": count(Severity::Medium),
            "low": count(Severity::Low),
            "checks": self.checks,
            "findings": self.findings.iter().map(document).collect::<Vec<_>>(),
        })
    }
}

/// What the settings warn of under this id. Plain HTTP on a port that others can reach is more than a weakness.
fn warned(facts: &Facts<'_>, id: &str) -> Vec<Found> {
    let warnings = facts.settings.warnings().iter().filter(|warning| warning.id == id);
    let found = |warning: &taskiq_flow_security::settings::Warning| Found {
        severity: match (id, facts.is_exposed()) {
            ("https-off", true) => Severity::High,
            _ => warning.severity,
        },
        field: warning.field.clone(),
        what: warning.message.clone(),
    };
    warnings.map(found).collect()
}

impl Found {
    fn new(severity: Severity, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, field: field.into(), what: what.into() }
    }

    fn high(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::High, field, what)
    }

    fn medium(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Medium, field, what)
    }

    fn low(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Low, field, what)
    }
}
