//! How much a pipeline may be asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rate_limit::{Limit, LimitError};
use crate::whitelist::{Pattern, PatternError};

/// The quota of a pipeline as written; what is absent has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaEntry {
    /// How often it may be executed, by whoever: a limit such as `100/hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executions: Option<String>,
    /// How often one principal may execute it: a limit such as `10/minute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_principal: Option<String>,
    /// How many of its runs may be unfinished at once; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_runs: Option<usize>,
}

/// A checked quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) executions: Option<Limit>,
    pub(crate) per_principal: Option<Limit>,
    pub(crate) concurrent_runs: Option<usize>,
}

/// All quotas, by pipeline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas {
    by_name: BTreeMap<String, Quota>,
    /// The more letters a pattern has beside its `*`, the further in front.
    by_pattern: Vec<(Pattern, Quota)>,
}

/// Why a quota is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuotaError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("{0}: {1}")]
    Limit(&'static str, LimitError),
    #[error("concurrent_runs: expected at least 1; to let nobody execute the pipeline, write an ACL")]
    NoRuns,
    #[error("the entry bounds nothing; write `executions`, `per_principal` or `concurrent_runs`")]
    Empty,
}

impl Quotas {
    /// # Errors
    /// The first entry that cannot be, by its name.
    pub(crate) fn build(entries: &BTreeMap<String, QuotaEntry>) -> Result<Self, (String, QuotaError)> {
        let mut quotas = Self::default();
        for (name, entry) in entries {
            let failed = |error| (name.clone(), error);
            let pattern = Pattern::parse(name).map_err(|error| failed(error.into()))?;
            let quota = entry.check().map_err(failed)?;
            match name.contains('*') {
                true => quotas.by_pattern.push((pattern, quota)),
                false => drop(quotas.by_name.insert(name.clone(), quota)),
            }
        }
        let letters = |pattern: &Pattern| pattern.to_string().chars().filter(|c| *c != '*').count();
        quotas.by_pattern.sort_by_key(|(pattern, _)| Reverse(letters(pattern)));
        Ok(quotas)
    }

    /// The quota of a pipeline: of the entry that names it, else of the longest pattern that it matches.
    pub(crate) fn of(&self, pipeline: &str) -> Option<&Quota> {
        let by_pattern = || self.by_pattern.iter().find(|(pattern, _)| pattern.matches(pipeline));
        self.by_name.get(pipeline).or_else(|| by_pattern().map(|(_, quota)| quota))
    }
}

impl QuotaEntry {
    fn check(&self) -> Result<Quota, QuotaError> {
        if *self == Self::default() {
            return Err(QuotaError::Empty);
        }
        if self.concurrent_runs == Some(0) {
            return Err(QuotaError::NoRuns);
        }
        let limit = |name, text: &Option<String>| {
            let limit = text.as_deref().map(str::parse::<Limit>).transpose();
            limit.map_err(|error| QuotaError::Limit(name, error))
        };
        Ok(Quota {
            executions: limit("executions", &self.executions)?,
            per_principal: limit("per_principal", &self.per_principal)?,
            concurrent_runs: self.concurrent_runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: serde_json::Value) -> BTreeMap<String, QuotaEntry> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_name_goes_before_patterns_and_the_longest_pattern_before_others() {
        let quotas = Quotas::build(&entries(serde_json::json!({
            "*": {"concurrent_runs": 1},
            "audio_*": {"concurrent_runs": 2},
            "audio_*_slow": {"concurrent_runs": 3},
            "audio_in": {"executions": "5/minute"},
        })))
        .unwrap();
        let runs = |pipeline| quotas.of(pipeline).and_then(|quota| quota.concurrent_runs);
        assert_eq!([runs("video"), runs("audio_out"), runs("audio_a_slow")], [Some(1), Some(2), Some(3)]);
        assert_eq!(runs("audio_in"), None, "its own entry says nothing of runs");
        assert!(quotas.of("audio_in").unwrap().executions.is_some());
        assert!(Quotas::default().of("audio_in").is_none());
    }

    #[test]
    fn what_bounds_nothing_or_everything_is_refused_with_its_name() {
        for (json, message) in [
            (serde_json::json!({"etl": {}}), "the entry bounds nothing"),
            (serde_json::json!({"etl": {"concurrent_runs": 0}}), "concurrent_runs: expected at least 1"),
            (serde_json::json!({"etl": {"executions": "many"}}), "executions: \"many\" is no limit"),
            (serde_json::json!({"etl": {"per_principal": "1/month"}}), "per_principal: \"month\""),
        ] {
            let (name, error) = Quotas::build(&entries(json)).unwrap_err();
            assert_eq!(name, "etl");
            assert!(error.to_string().starts_with(message), "{error}");
        }
        assert!(Quotas::build(&entries(serde_json::json!({"": {"concurrent_runs": 1}}))).is_err());
    }
}
