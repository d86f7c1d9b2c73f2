//! One source of values: which fields it names, and how a mistake in it is shown.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use taskiq_flow_core::diagnostic::{Diagnostic, SourceText, Span, nearest};
use taskiq_flow_core::document::{Document, Format, NodeValue};

use super::error::{ConfigError, Origin};
use super::fields::{self, ENV_PREFIX, Field, env_name};
use super::mistake::Mistake;
use super::raw::Raw;

/// The longest configuration file, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// What one source says about one field.
pub(super) struct Given {
    pub(super) field: &'static Field,
    pub(super) origin: Origin,
    pub(super) value: Value,
    /// The file it stands in, if it stands in one.
    pub(super) text: Option<Arc<FileText>>,
}

/// A value as its source has it.
pub(super) enum Value {
    /// With its type.
    Tree(Raw),
    /// As text that is still to be read.
    Text(String),
}

/// A configuration file, and what of it may be shown.
pub(super) struct FileText {
    name: String,
    text: String,
    /// The places of values and keys that are, or may be, secrets.
    secrets: Vec<Span>,
}

/// The fields of a file.
pub(super) fn of_file(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let Some(format) = Format::of_path(path) else {
        let help = "name it `.toml`, `.yaml`, `.yml` or `.json`";
        return Err(ConfigError::of_file(
            path,
            "the format of this configuration file is not known",
            Some(help),
        ));
    };
    let origin = || Origin::File(path.to_owned());
    let text = read(path)?;
    let name = path.display().to_string();
    let document = Document::parse_confidential(&name, &text, format)
        .map_err(|diagnostic| ConfigError::of_diagnostic(diagnostic, None, origin()))?;
    let entries = match &document.root().value {
        NodeValue::Mapping(entries) => entries.as_slice(),
        NodeValue::Null => &[],
        _ => {
            let found = document.root().kind();
            let diagnostic = document
                .error(document.root(), format!("a configuration is a mapping of fields, not {found}"));
            return Err(ConfigError::of_diagnostic(diagnostic, None, origin()));
        }
    };
    let trees: Vec<_> = entries.iter().map(|(key, node)| (key, Raw::of_node(node))).collect();
    let mut secrets = Vec::new();
    for (key, tree) in &trees {
        if may_be_secret(&key.text) {
            tree.written(&mut secrets);
        }
    }
    let file = Arc::new(FileText { name, text, secrets });
    let mut given: Vec<Given> = Vec::new();
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (key, tree) in trees {
        let error = |message: String, help: Option<String>| {
            let shown = !may_be_secret(&key.text);
            file.error(
                message,
                help,
                Some(key.span),
                format!("/{}", key.text),
                shown,
                Some(&key.text),
                origin(),
            )
        };
        let Some(field) = fields::field(&key.text) else {
            let help = match nearest(&key.text, fields::names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`taskiq-flow check --help` says where the fields are described".to_owned(),
            };
            return Err(error(format!("there is no field `{}`", key.text), Some(help)));
        };
        if let Some(other) = seen.insert(field.name, key.text.clone()) {
            return Err(error(twice(&other, &key.text), Some("keep one of them".to_owned())));
        }
        given.push(Given {
            field,
            origin: origin(),
            value: Value::Tree(tree),
            text: Some(Arc::clone(&file)),
        });
    }
    Ok(given)
}

/// The fields of the environment, and the variables with our prefix that are none.
pub(super) fn of_env(env: &[(OsString, OsString)]) -> Result<(Vec<Given>, Vec<String>), ConfigError> {
    let mut given: Vec<Given> = Vec::new();
    let mut unknown = Vec::new();
    for (name, value) in env {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        let origin = Origin::Environment(name.to_owned());
        let Some(field) = fields::names().find(|field| env_name(field) == name).and_then(fields::field)
        else {
            unknown.push(name.to_owned());
            continue;
        };
        let Some(value) = value.to_str() else {
            return Err(ConfigError::of_mistake(Mistake::must("be UTF-8 text"), field.name, origin));
        };
        if let Some(other) = given.iter().find(|other| other.field.name == field.name) {
            let other = match &other.origin {
                Origin::Environment(other) => other.as_str(),
                _ => field.name,
            };
            let mistake = Mistake::is(format!("is set twice: `{other}` and `{name}` are one field"))
                .help("unset one of them");
            return Err(ConfigError::of_mistake(mistake, field.name, origin));
        }
        given.push(Given { field, origin, value: Value::Text(value.to_owned()), text: None });
    }
    Ok((given, unknown))
}

impl Given {
    /// The value with its type, read from files of its own where it says so.
    pub(super) fn read(&self) -> Result<Raw, Mistake> {
        let kind = &self.field.kind;
        match &self.value {
            Value::Tree(tree) => tree.clone().resolve(kind),
            Value::Text(text) => match text.strip_prefix(super::reading::INDIRECTION) {
                Some(_) => Raw::text(text).resolve(kind),
                None => Raw::of_text(text, kind)?.resolve(kind),
            },
        }
    }

    /// Whether reading it needs a file of its own.
    pub(super) fn is_indirect(&self) -> bool {
        match &self.value {
            Value::Tree(tree) => tree.is_indirect(),
            Value::Text(text) => text.contains(super::reading::INDIRECTION),
        }
    }

    /// The mistake with its place.
    pub(super) fn error(&self, mistake: Mistake) -> ConfigError {
        let (Some(file), Value::Tree(tree)) = (&self.text, &self.value) else {
            return ConfigError::of_mistake(mistake, self.field.name, self.origin.clone());
        };
        let span = match mistake.at_key {
            true => tree.key_span(&mistake.path).or(tree.find(&mistake.path).span),
            false => tree.find(&mistake.path).span,
        };
        let message = mistake.message(self.field.name);
        let pointer = mistake.pointer(self.field.name);
        let (field, origin) = (Some(self.field.name), self.origin.clone());
        file.error(message, mistake.help, span, pointer, !self.field.secret, field, origin)
    }
}

impl FileText {
    #[allow(clippy::too_many_arguments, reason = "the parts of one message, put together in one place")]
    fn error(
        &self,
        message: String,
        help: Option<String>,
        span: Option<Span>,
        pointer: String,
        shown: bool,
        field: Option<&str>,
        origin: Origin,
    ) -> ConfigError {
        let mut source = SourceText::new(&self.name, &self.text);
        if !shown || span.is_none_or(|span| self.line_has_secret(span)) {
            source = source.confidential();
        }
        let mut diagnostic = Diagnostic::new(source, message).pointing_to(pointer);
        if let Some(span) = span {
            diagnostic = diagnostic.at(span);
        }
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        ConfigError::of_diagnostic(diagnostic, field, origin)
    }

    /// Whether something secret stands on a line that would be shown.
    fn line_has_secret(&self, span: Span) -> bool {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let start = before.rfind(['\n', '\r']).map_or(0, |newline| newline + 1);
        let after = self.text.get(span.start..).unwrap_or("");
        let end = after.find(['\n', '\r']).map_or(self.text.len(), |newline| span.start + newline);
        // A place without length still marks a line.
        self.secrets.iter().any(|secret| secret.start <= end && secret.end.max(secret.start + 1) > start)
    }
}

/// Whether the value under this name is secret. One that is not known may be a secret under a mistyped name.
fn may_be_secret(name: &str) -> bool {
    let meant = || nearest(name, fields::names()).and_then(fields::field);
    fields::field(name).or_else(meant).is_none_or(|field| field.secret)
}

fn twice(first: &str, second: &str) -> String {
    format!("`{first}` and `{second}` are one field")
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let cannot = |reason: String| {
        ConfigError::of_file(path, format!("the configuration file cannot be read: {reason}"), None)
    };
    let metadata = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if metadata.len() > MAX_FILE {
        return Err(cannot(format!("it is longer than {} MiB", MAX_FILE >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8 text".to_owned()))?;
    // Places in the document count from after the byte order mark.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}
