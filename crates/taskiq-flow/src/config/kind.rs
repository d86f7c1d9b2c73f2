//! What kind of value a field takes, and how messages and the reference say it.

/// What kind of value a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(super) enum Kind {
    /// True or false.
    Flag,
    /// A whole number.
    Number {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// Text.
    Text {
        /// What the text is, as messages say it.
        what: &'static str,
        /// A text that is accepted.
        sample: &'static str,
    },
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of such values.
    List(&'static Kind),
    /// Such values under names.
    Map(&'static Kind),
    /// A mapping with these names, the last ones optional.
    Struct(&'static [&'static str]),
    /// One text, or a list of such values.
    TextOrList(&'static Kind),
    /// A text that says it all, or a mapping with these names, the last ones optional.
    TextOrStruct(&'static [&'static str]),
}

impl Kind {
    /// As messages say what was expected.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number { min, max: u64::MAX } => format!("a whole number from {min}"),
            Self::Number { min, max } => format!("a whole number from {min} to {max}"),
            Self::Text { what, .. } => (*what).to_owned(),
            Self::Choice(names) => alternatives(names),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Struct(_) => "a mapping".to_owned(),
            Self::TextOrList(Self::TextOrStruct(_)) => "text, a mapping or a list".to_owned(),
            Self::TextOrList(_) => "text or a list".to_owned(),
            Self::TextOrStruct(_) => "text or a mapping".to_owned(),
        }
    }

    /// A value, as JSON text.
    pub(super) fn sample(&self) -> String {
        match self {
            Self::Flag => "true".to_owned(),
            Self::Number { min, .. } => min.to_string(),
            Self::Text { sample, .. } => format!("\"{sample}\""),
            Self::TextOrStruct(_) => "\"text\"".to_owned(),
            Self::Choice(names) => format!("\"{}\"", names.first().unwrap_or(&"")),
            Self::List(of) | Self::TextOrList(of) => format!("[{}]", of.sample()),
            Self::Map(of) => format!("{{\"name\": {}}}", of.sample()),
            Self::Struct(names) => format!("{{\"{}\": ...}}", names.first().unwrap_or(&"")),
        }
    }

    /// As the reference names the kind.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number { .. } => "number".to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::Choice(names) => alternatives(names),
            Self::List(of) => format!("list of {}", of.title()),
            Self::Map(of) => format!("map to {}", of.title()),
            Self::Struct(names) => format!("{{{}}}", names.join(", ")),
            Self::TextOrList(Self::Text { .. }) => "text or list".to_owned(),
            Self::TextOrList(of) => format!("{}, or list of that", of.title()),
            Self::TextOrStruct(names) => format!("text or {{{}}}", names.join(", ")),
        }
    }
}

/// Texts one of which is meant.
pub(super) fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
