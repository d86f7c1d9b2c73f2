use super::*;

fn source(text: &str) -> Arc<SourceText> {
    Arc::new(SourceText::new("p.yaml", text))
}

#[test]
fn a_place_is_shown_with_line_column_and_caret() {
    let diagnostic =
        Diagnostic::new(source("id: x\nname: é wrong\n"), "no").at(15..20).label("this").help("that");
    assert_eq!((diagnostic.line(), diagnostic.column()), (Some(2), Some(9)));
    let expected =
        "error: no\n --> p.yaml:2:9\n  |\n2 | name: é wrong\n  |         ^^^^^ this\n  |\n  = help: that";
    assert_eq!(diagnostic.to_string(), expected);
    assert!(diagnostic.render(true).contains("\u{1b}["));
}

#[test]
fn a_source_without_text_names_the_field() {
    let diagnostic = Diagnostic::new(SourceText::named("body"), "no").pointing_to("/tasks/0").help("that");
    assert_eq!(diagnostic.to_string(), "error: no\n--> body: /tasks/0\n = help: that");
    let json = serde_json::to_value(&diagnostic).unwrap();
    assert_eq!(json, serde_json::json!({"field": "/tasks/0", "message": "no", "help": "that"}));
}

#[test]
fn a_confidential_source_shows_place_and_no_text() {
    let source = SourceText::new("c.toml", "jwt_secret = hunter2\n").confidential();
    let shown = Diagnostic::new(source, "no").at(13..20).label("here").to_string();
    assert!(shown.contains("c.toml:1:14") && shown.contains("here"), "{shown}");
    assert!(!shown.contains("hunter2") && !format!("{shown:?}").contains("hunter2"));
}

#[test]
fn nothing_in_a_text_steers_the_terminal() {
    let text = "a: \u{1b}[31mred\u{202e}\n";
    let shown =
        Diagnostic::new(source(text), format!("bad `{text}`")).at(3..8).label(text).help(text).to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(Diagnostic::new(SourceText::named(text), "no").to_string().contains("\\u{1b}"));
}

#[test]
fn any_span_of_any_text_renders() {
    for text in ["", "\n", "é", "a\r\nb", "x\n\n\ny", &"w".repeat(5000)] {
        for start in [0, 1, 2, 3, 900, 4999, 5000, 9999] {
            for end in [0, 1, 4, 4500, 9999] {
                let diagnostic = Diagnostic::new(source(text), "m").at(start..end).label("l");
                assert!(diagnostic.to_string().contains("p.yaml"));
            }
        }
    }
}

#[test]
fn the_nearest_name_is_near() {
    let known = ["expression", "command", "inputs", "when"];
    assert_eq!(nearest("expresion", known), Some("expression"));
    assert_eq!(nearest("Inputs", known), Some("inputs"));
    assert_eq!(nearest("wehn", known), Some("when"));
    assert_eq!(nearest("banana", known), None);
    assert_eq!(nearest(&"x".repeat(100_000), known), None);
}
