//! What the fuzz targets do with their bytes.
//!
//! Each function takes any bytes and must return: a panic, an abort, a hang or a broken promise is a finding. The same
//! functions are run by libFuzzer (`make fuzz`) and, over the committed corpora and mutations of them, by an ordinary
//! test (`crates/api/tests/fuzz`), so that what was once found stays fixed without special tools.

mod audit;
mod certificate;
mod definition;
mod forwarded;
mod issuer;
mod request;
mod text;
mod token;

/// A target's name, which is that of its corpus and of its binary, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 13] = [
    ("token", token::token),
    ("forwarded", forwarded::forwarded),
    ("limit", text::limit),
    ("key", text::key),
    ("whitelist", text::whitelist),
    ("origin", text::origin),
    ("pipeline", definition::pipeline),
    ("parameters", definition::parameters),
    ("expression", definition::expression),
    ("request", request::request),
    ("audit", audit::audit),
    ("certificate", certificate::certificate),
    ("issuer", issuer::issuer),
];

/// Runs a target by name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target `{name}`"));
    target(data);
}
