//! What undoes a task.

use crate::definition::{Compensation, RetryPolicy};
use crate::document::Node;

use super::reader::{Reader, listed};
use super::scope::{KINDS, Scope};

/// The name under which the undoing sees what the task had made.
const RESULT: &str = "result";

impl Reader<'_> {
    pub(super) fn compensation(&mut self, node: &Node, scope: &mut Scope) -> Option<Compensation> {
        let help = format!("write one of {}, with what it does", listed(KINDS));
        let fields = self.mapping(node, "what undoes the task (a mapping)", &help)?;
        if scope.has(RESULT) {
            let message = format!(
                "`{RESULT}` is an input of {}, and what its `compensate` sees its value as",
                scope.owner
            );
            self.wrong(node, message, "rename the input: `inputs: { other_name: result }`");
            return None;
        }
        let outer = scope.locals.len();
        scope.locals.push(RESULT.to_owned());
        let what = format!("what undoes {}", scope.owner);
        let body = self.inner_body(fields, &what, &["timeout", "retry"], scope);
        scope.locals.truncate(outer);
        let timeout = match fields.get("timeout") {
            Some(timeout) => self.time_limit(timeout),
            None => {
                let waits = body.as_ref().is_some_and(|body| body.kind.waits());
                self.defaults.step_timeout.filter(|_| !waits)
            }
        };
        let retry = match fields.get("retry") {
            Some(retry) => self.retry(retry)?,
            None => RetryPolicy::default(),
        };
        Some(Compensation { body: body?, timeout, retry })
    }
}
