//! The fields of a task of Python taskiq workers.

use crate::definition::{Argument, TaskiqSpec};
use crate::document::{Node, NodeValue};

use super::reader::Reader;
use super::scope::Scope;

impl Reader<'_> {
    pub(super) fn taskiq(&mut self, node: &Node, scope: &Scope) -> Option<TaskiqSpec> {
        let fields = self.fields(node, "a taskiq task", &["task", "args", "kwargs"])?;
        let task = match fields.get("task") {
            Some(task) => self.name(task),
            None => {
                self.missing(
                    fields,
                    "task",
                    "name the task as its workers know it, such as `module:function`",
                );
                None
            }
        };
        let mut spec = TaskiqSpec { task: task?, args: Vec::new(), kwargs: Vec::new() };
        if let Some(args) = fields.get("args") {
            let args = self.sequence(args, "a list of arguments", "write `[name]`")?;
            spec.args = args.iter().filter_map(|argument| self.taskiq_argument(argument, scope)).collect();
        }
        if let Some(kwargs) = fields.get("kwargs") {
            for (key, value) in
                self.mapping(kwargs, "arguments by name", "write `{ argument: name }`")?.entries
            {
                let argument = self.taskiq_argument(value, scope)?;
                spec.kwargs.push((key.text.clone(), argument));
            }
        }
        Some(spec)
    }

    fn taskiq_argument(&mut self, node: &Node, scope: &Scope) -> Option<Argument> {
        match &node.value {
            NodeValue::String(name) if scope.has(name) => Some(Argument::Input(name.clone())),
            NodeValue::String(name) => {
                let help = format!(
                    "add `{name}` to the task's `inputs:`; for the text itself write `{{ value: {name:?} }}`"
                );
                self.wrong(node, format!("`{name}` is no input of {}", scope.owner), help);
                None
            }
            NodeValue::Mapping(entries) => match entries.as_slice() {
                [(key, value)] if key.text == "value" => Some(Argument::Constant(value.to_json())),
                _ => Some(Argument::Constant(node.to_json())),
            },
            _ => Some(Argument::Constant(node.to_json())),
        }
    }
}
