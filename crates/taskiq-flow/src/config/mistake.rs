//! What is wrong with a value, before it is known which source it came from.

use std::fmt::Write;

use super::kind::Kind;
use super::raw::{Raw, RawValue};

/// A mistake in a value of a field. Its message never holds a secret.
pub(super) struct Mistake {
    /// The way from the field to the value at fault.
    pub(super) path: Vec<Segment>,
    /// Whether the key the path ends in is at fault, and not what stands under it.
    pub(super) at_key: bool,
    /// What follows the name of the field.
    predicate: Predicate,
    pub(super) help: Option<String>,
}

/// One step into a value.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// What stands under a name.
    Name(String),
    /// The entry of a mapping whose keys are secret, by position.
    Entry(usize),
    /// The item of a list, by position.
    Item(usize),
}

enum Predicate {
    /// "`field` must ..."
    Must(String),
    /// "`field` ..."
    Is(String),
    /// "`field`: ..."
    Says(String),
}

/// A mistake and the field it is in.
pub(super) struct Found {
    pub(super) field: &'static str,
    pub(super) mistake: Mistake,
}

/// The result, its mistake put into a field.
pub(super) fn at<T>(field: &'static str, result: Result<T, Mistake>) -> Result<T, Found> {
    result.map_err(|mistake| Found { field, mistake })
}

impl Mistake {
    /// Reads "`field` must ...".
    pub(super) fn must(what: impl Into<String>) -> Self {
        Self::with(Predicate::Must(what.into()))
    }

    /// Reads "`field` ...".
    pub(super) fn is(what: impl Into<String>) -> Self {
        Self::with(Predicate::Is(what.into()))
    }

    /// Reads "`field`: ...".
    pub(super) fn says(what: impl Into<String>) -> Self {
        Self::with(Predicate::Says(what.into()))
    }

    /// The value is of another kind, or outside its range. `secret`: what was found is not shown.
    pub(super) fn kind(kind: &Kind, found: &Raw, secret: bool) -> Self {
        let secret = secret || found.file.is_some();
        let mistake = Self::must(format!("be {}, found {}", kind.expected(), describe(found, secret)));
        match (kind, &found.value) {
            (Kind::Choice(names), RawValue::Text(text)) if !secret => {
                mistake.nearest(text, names.iter().copied())
            }
            _ => mistake,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn nearest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match taskiq_flow_core::diagnostic::nearest(name, known) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// The mistake, seen from one level further out.
    pub(super) fn under(mut self, segment: Segment) -> Self {
        self.path.insert(0, segment);
        self
    }

    pub(super) fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    pub(super) fn found_in(mut self, path: &str) -> Self {
        let (Predicate::Must(text) | Predicate::Is(text) | Predicate::Says(text)) = &mut self.predicate;
        // Writing into a String cannot fail.
        let _ = write!(text, " (in the file `{path}`)");
        self
    }

    /// The message as users read it.
    pub(super) fn message(&self, field: &str) -> String {
        let mut subject = format!("`{field}`");
        for segment in &self.path {
            subject = match segment {
                Segment::Name(name) => format!("{} of {subject}", named(name)),
                Segment::Entry(index) => format!("entry {} of {subject}", index + 1),
                Segment::Item(index) => format!("item {} of {subject}", index + 1),
            };
        }
        match &self.predicate {
            Predicate::Must(what) => format!("{subject} must {what}"),
            Predicate::Is(what) => format!("{subject} {what}"),
            Predicate::Says(what) => format!("{subject}: {what}"),
        }
    }

    /// The way to the value as a JSON pointer; entries with secret keys by position.
    pub(super) fn pointer(&self, field: &str) -> String {
        let mut pointer = format!("/{field}");
        for segment in &self.path {
            match segment {
                Segment::Name(name) => {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                Segment::Entry(index) | Segment::Item(index) => {
                    // Writing into a String cannot fail.
                    let _ = write!(pointer, "/{index}");
                }
            }
        }
        pointer
    }

    fn with(predicate: Predicate) -> Self {
        Self { path: Vec::new(), at_key: false, predicate, help: None }
    }
}

fn named(name: &str) -> String {
    format!("`{}`", shortened(name))
}

fn describe(found: &Raw, secret: bool) -> String {
    match (&found.value, secret) {
        (RawValue::Null, _) => "nothing".to_owned(),
        (RawValue::Flag(flag), false) => flag.to_string(),
        (RawValue::Flag(_), true) => "true or false".to_owned(),
        (RawValue::Number(number), false) => number.to_string(),
        (RawValue::Number(_), true) => "a number".to_owned(),
        (RawValue::Text(text), false) => format!("text {}", quoted(text)),
        (RawValue::Text(_), true) => "text".to_owned(),
        (RawValue::List(_), _) => "a list".to_owned(),
        (RawValue::Map(_), _) => "a mapping".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
