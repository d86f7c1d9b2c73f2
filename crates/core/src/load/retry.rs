//! When a failed attempt is repeated.

use crate::definition::{ErrorRule, RetryPolicy};
use crate::document::{Node, NodeValue};

use super::reader::Reader;

const RETRY_FIELDS: &[&str] =
    &["max_attempts", "delay", "backoff", "jitter", "max_delay", "max_time", "retry_on", "not_on"];

/// The most attempts of one step.
const MAX_ATTEMPTS: u32 = 1000;

/// The most by which the wait between attempts grows each time.
const MAX_BACKOFF: f64 = 1000.0;

impl Reader<'_> {
    pub(super) fn retry(&mut self, node: &Node) -> Option<RetryPolicy> {
        if let NodeValue::Number(number) = &node.value {
            let help = format!("write `retry: {{ max_attempts: {number} }}`; the first attempt counts");
            self.wrong_type(node, "a retry policy (a mapping)", &help);
            return None;
        }
        let fields = self.fields(node, "a retry policy", RETRY_FIELDS)?;
        let mut policy = RetryPolicy::default();
        match fields.get("max_attempts").map(|count| self.count_up_to(count, MAX_ATTEMPTS)) {
            Some(count) => policy.max_attempts = count.unwrap_or(policy.max_attempts),
            None => {
                self.missing(fields, "max_attempts", "say how many attempts there are, the first included")
            }
        }
        if let Some(delay) = fields.get("delay").and_then(|delay| self.duration(delay)) {
            policy.delay = delay;
        }
        if let Some(delay) = fields.get("max_delay").and_then(|delay| self.duration(delay)) {
            policy.max_delay = delay;
        }
        if let Some(jitter) = fields.get("jitter").and_then(|jitter| self.flag(jitter)) {
            policy.jitter = jitter;
        }
        if let Some(node) = fields.get("backoff")
            && let Some(backoff) = self.number(node)
        {
            if !(1.0..=MAX_BACKOFF).contains(&backoff) {
                let message = format!("expected a number from 1 to {MAX_BACKOFF}");
                self.wrong(node, message, "1 keeps the delay the same, 2 doubles it each time");
            }
            policy.backoff = backoff;
        }
        policy.max_time = fields.get("max_time").and_then(|limit| self.time_limit(limit));
        policy.retry_on = fields.get("retry_on").and_then(|rules| self.error_rules(rules, "retry_on"));
        policy.not_on =
            fields.get("not_on").and_then(|rules| self.error_rules(rules, "not_on")).unwrap_or_default();
        Some(policy)
    }

    fn error_rules(&mut self, node: &Node, field: &str) -> Option<Vec<ErrorRule>> {
        let help = format!("write `{field}: [timeout, \"http:5*\", \"message ~ try again\"]`");
        let nodes = self.sequence(node, "a list of errors", &help)?;
        if nodes.is_empty() {
            self.wrong(node, format!("`{field}` names no error"), "leave it out, or name one");
            return None;
        }
        let mut rules = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(text) = self.text(node) else { continue };
            match text.parse::<ErrorRule>() {
                Ok(rule) => rules.push(rule),
                Err(error) => self.wrong(node, error.message, error.help),
            }
        }
        Some(rules)
    }
}
