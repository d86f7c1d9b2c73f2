//! The fields of a process.

use std::path::PathBuf;

use crate::definition::CommandSpec;
use crate::document::{Node, NodeValue};

use super::reader::Reader;

const COMMAND_FIELDS: &[&str] = &["argv", "env", "pass_env", "cwd"];

impl Reader<'_> {
    pub(super) fn command(&mut self, node: &Node) -> Option<CommandSpec> {
        let mut spec =
            CommandSpec { argv: Vec::new(), env: Default::default(), pass_env: Vec::new(), cwd: None };
        match &node.value {
            NodeValue::Sequence(_) => spec.argv = self.argv(node)?,
            NodeValue::String(text) => {
                let words: Vec<_> = text.split_whitespace().take(8).map(|word| format!("{word:?}")).collect();
                let help = format!(
                    "write the program and its arguments as a list, `[{}]`; if a shell is meant, `[\"sh\", \"-c\", \"...\"]`",
                    words.join(", ")
                );
                self.wrong(node, "a command is a list: no shell takes it apart", help);
                return None;
            }
            _ => {
                let fields = self.fields(node, "a command", COMMAND_FIELDS)?;
                match fields.get("argv") {
                    Some(argv) => spec.argv = self.argv(argv)?,
                    None => {
                        self.missing(fields, "argv", "list the program and its arguments");
                        return None;
                    }
                }
                if let Some(env) = fields.get("env") {
                    for (key, value) in
                        self.mapping(env, "variables and their values", "write `{ NAME: value }`")?.entries
                    {
                        if key.text.is_empty() || key.text.contains(['=', '\0']) {
                            let error = self.document().error_at_key(
                                key,
                                value,
                                "this is no name of an environment variable",
                            );
                            self.fail(error);
                        }
                        spec.env.insert(key.text.clone(), self.argument(value)?);
                    }
                }
                if let Some(names) = fields.get("pass_env") {
                    spec.pass_env = self.names(names)?;
                }
                if let Some(cwd) = fields.get("cwd") {
                    spec.cwd = Some(PathBuf::from(self.argument(cwd)?));
                }
            }
        }
        Some(spec)
    }

    fn argv(&mut self, node: &Node) -> Option<Vec<String>> {
        let items = self.sequence(
            node,
            "the program and its arguments (a list)",
            "write `[\"program\", \"argument\"]`",
        )?;
        let argv: Vec<_> = items.iter().filter_map(|item| self.argument(item)).collect();
        if argv.first().is_none_or(String::is_empty) {
            self.wrong(node, "the command names no program", "the first entry of the list is the program");
            return None;
        }
        Some(argv)
    }

    /// Text for a process; a number is its text.
    fn argument(&mut self, node: &Node) -> Option<String> {
        if let NodeValue::Number(number) = &node.value {
            return Some(number.to_string());
        }
        let text = self.text(node)?;
        if text.contains('\0') {
            self.wrong(node, "a process cannot be given a zero byte", "");
            return None;
        }
        Some(text.to_owned())
    }
}
