//! Values as a source wrote them, before they have a type.

use std::sync::Arc;

use taskiq_flow_core::diagnostic::Span;

/// A value with the place it was written at. It may hold secrets and therefore has no `Debug`.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    /// Its bytes in the configuration file, when it stands there.
    pub(super) span: Option<Span>,
    /// The file that a `file:` value was read from.
    pub(super) file: Option<Arc<str>>,
}

#[derive(Clone)]
pub(super) enum RawValue {
    Null,
    Flag(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(RawKey, Raw)>),
}

#[derive(Clone)]
pub(super) struct RawKey {
    pub(super) text: String,
    pub(super) span: Option<Span>,
}
