//! What users are told about typical mistakes, word for word: the messages are a part of the product.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod fields;
mod values;
mod wiring;

use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;

fn check(text: &str, expected: &str) {
    let shown = load_text("p.yaml", text, Format::Yaml).expect_err(text).to_string();
    assert_eq!(shown, expected.trim_matches('\n'), "\n{shown}");
}
