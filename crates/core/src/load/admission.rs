//! The fields that say which runs may be under way at once: `priority`, `concurrency`.

use std::num::NonZeroU32;

use super::pipeline::MAX_PARALLEL;
use super::reader::{Fields, Reader};
use crate::definition::{Concurrency, InputSchema, OnFull, Priority};
use crate::document::{Node, NodeValue};

const CONCURRENCY_FIELDS: &[&str] = &["max", "key", "on_full"];

const ON_FULL: &[(&str, OnFull)] =
    &[("queue", OnFull::Queue), ("skip", OnFull::Skip), ("cancel_oldest", OnFull::CancelOldest)];

/// The most limits of one pipeline: each is looked at whenever a run of it starts or ends.
const MAX_LIMITS: usize = 8;

impl Reader<'_> {
    pub(super) fn priority(&mut self, node: &Node) -> Option<Priority> {
        let number = match &node.value {
            NodeValue::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()),
            _ => None,
        };
        match Priority::try_from(number.unwrap_or(u8::MAX)) {
            Ok(priority) => Some(priority),
            Err(error) => {
                self.wrong(node, error.to_string(), "leave it out for 5, the middle");
                None
            }
        }
    }

    /// A number, a limit, or a list of limits.
    pub(super) fn concurrency(&mut self, node: &Node, inputs: Option<&InputSchema>) -> Vec<Concurrency> {
        let one = std::slice::from_ref(node);
        let nodes = node.as_sequence().unwrap_or(one);
        if nodes.len() > MAX_LIMITS {
            self.wrong(node, format!("a pipeline has at most {MAX_LIMITS} limits"), "");
            return Vec::new();
        }
        nodes.iter().filter_map(|node| self.limit(node, inputs)).collect()
    }

    fn limit(&mut self, node: &Node, inputs: Option<&InputSchema>) -> Option<Concurrency> {
        if matches!(node.value, NodeValue::Number(_)) {
            let max = self.count_up_to(node, MAX_PARALLEL)?;
            return Some(Concurrency { max, key: None, on_full: OnFull::default() });
        }
        let fields = self.fields(node, "a concurrency limit", CONCURRENCY_FIELDS)?;
        let max = self.most(fields);
        let key = fields.get("key").map(|key| self.limit_key(key, inputs));
        let on_full = fields.get("on_full").map(|rule| self.choice(rule, ON_FULL));
        Some(Concurrency {
            max: max?,
            // One that is wrong was noted, and must not become a limit without it.
            key: key.map_or(Some(None), |key| key.map(Some))?,
            on_full: on_full.map_or(Some(OnFull::default()), |rule| rule)?,
        })
    }

    fn most(&mut self, fields: Fields<'_>) -> Option<NonZeroU32> {
        match fields.get("max") {
            Some(max) => self.count_up_to(max, MAX_PARALLEL),
            None => {
                self.missing(fields, "max", "say how many runs may be under way at once");
                None
            }
        }
    }

    fn limit_key(&mut self, node: &Node, inputs: Option<&InputSchema>) -> Option<crate::expr::Expr> {
        let expr = self.expr(node)?;
        let known = |name: &str| inputs.is_none_or(|inputs| !inputs.declared() || inputs.contains(name));
        for name in expr.names().iter().filter(|name| !known(name)) {
            let message = format!("`{name}` is no parameter of the pipeline");
            let help = "the key of a limit is made of parameters: declare it under the pipeline's `inputs:`";
            self.fail(self.document().error_within(node, expr.place_of(name), message).help(help));
        }
        Some(expr)
    }
}
