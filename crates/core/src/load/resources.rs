//! The field `resources` of a task.

use std::sync::Arc;

use super::reader::Reader;
use crate::definition::{Amount, Resources, TaskKind};
use crate::document::{Node, NodeValue};

/// The most resources of one task.
const MAX_RESOURCES: usize = 16;

impl Reader<'_> {
    /// `cpu` in cores, `memory` in bytes, and whatever else the server's configuration counts.
    pub(super) fn resources(&mut self, node: &Node, kind: &TaskKind) -> Resources {
        if !takes_resources(kind) {
            let message = format!("a task of the kind `{}` takes nothing of the machine", kind.name());
            let help = "leave `resources` out; a process, a request and a Rust task take something";
            self.wrong(node, message, help);
            return Resources::default();
        }
        let help = "write `{ cpu: 0.5, memory: 512MiB }`";
        let Some(fields) = self.mapping(node, "resources and their amounts (a mapping)", help) else {
            return Resources::default();
        };
        if fields.entries.len() > MAX_RESOURCES {
            self.wrong(node, format!("a task names at most {MAX_RESOURCES} resources"), "");
            return Resources::default();
        }
        let mut amounts = Vec::with_capacity(fields.entries.len());
        for (key, value) in fields.entries {
            let text = match &value.value {
                NodeValue::Number(number) => number.to_string(),
                NodeValue::String(text) => text.clone(),
                _ => String::new(),
            };
            match Amount::parse(&key.text, &text) {
                Ok(amount) if self.check_key(key, value) => {
                    amounts.push((Arc::from(key.text.as_str()), amount))
                }
                Ok(_) => {}
                Err(error) => self.wrong(value, error.to_string(), ""),
            }
        }
        Resources::from_amounts(amounts)
    }
}

/// Whether an attempt of it, or of something within it, is carried out by a worker. Expressions are too small to count,
/// waits and other pipelines take nothing themselves.
fn takes_resources(kind: &TaskKind) -> bool {
    match kind {
        TaskKind::Command(_) | TaskKind::Http(_) | TaskKind::Task(_) | TaskKind::Taskiq(_) => true,
        other => other.inner().iter().any(|body| takes_resources(&body.kind)),
    }
}
