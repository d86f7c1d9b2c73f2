use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str, format: Format) -> Document {
    Document::parse("t", text, format).unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(text: &str, format: Format) -> String {
    Document::parse("t", text, format).expect_err(text).to_string()
}

/// Every scalar's span holds its text, so the places are those of the values.
fn check_spans(document: &Document, node: &Node) {
    let text = document.source().text().unwrap();
    match &node.value {
        NodeValue::Sequence(items) => items.iter().for_each(|item| check_spans(document, item)),
        NodeValue::Mapping(entries) => {
            for (key, value) in entries {
                assert!(key.span.slice(text).contains(&key.text), "{key:?}");
                check_spans(document, value);
            }
        }
        NodeValue::Number(number) => assert_eq!(node.span.slice(text), number.to_string()),
        NodeValue::String(value) => assert!(node.span.slice(text).contains(value.as_str()), "{node:?}"),
        NodeValue::Bool(value) => assert_eq!(node.span.slice(text), value.to_string()),
        NodeValue::Null => {}
    }
}

#[test]
fn the_three_formats_give_the_same_tree_with_places() {
    let expected =
        json!({"id": "größe", "list": [1, -2, 1.5, true], "nested": {"b": "x y", "a": [{"k": "v"}]}});
    let yaml = "id: größe\nlist: [1, -2, 1.5, true] # c\nnested:\n  b: x y\n  a:\n    - k: 'v'\n";
    let toml = "id = \"größe\"\nlist = [1, -2, 1.5, true]\n[nested]\nb = 'x y'\n[[nested.a]]\nk = \"v\"\n";
    let json = "{\"id\": \"größe\",\n \"list\":[1 , -2,1.5,true ],\"nested\":{\"b\":\"x y\",\"a\":[{\"k\":\"v\"}]} }\n";
    for (text, format) in [(yaml, Format::Yaml), (toml, Format::Toml), (json, Format::Json)] {
        let document = parse(text, format);
        assert_eq!(document.root().to_json(), expected, "{format:?}");
        // `Map` compares without order; files keep theirs.
        assert_eq!(document.root().to_json().to_string(), expected.to_string(), "{format:?}");
        check_spans(&document, document.root());
        let deep = &document.root().get("nested").unwrap().get("a").unwrap().as_sequence().unwrap()[0];
        assert_eq!(document.pointer(deep.get("k").unwrap()), "/nested/a/0/k");
        assert_eq!(document.pointer(document.root()), "");
    }
}

#[test]
fn yaml_reads_no_surprises() {
    let text =
        "a: no\nb: 012\nc: 1_000\nd: ~\ne: 0x1F\nf: 'true'\ng: 2024-01-01\nh: |\n  two\n  lines\n1: one\n";
    let expected = json!({"a": "no", "b": "012", "c": "1_000", "d": null, "e": 31, "f": "true", "g": "2024-01-01",
        "h": "two\nlines\n", "1": "one"});
    assert_eq!(parse(text, Format::Yaml).root().to_json(), expected);
    assert_eq!(parse("", Format::Yaml).root().to_json(), json!(null));
    assert_eq!(parse("# nothing\n", Format::Yaml).root().to_json(), json!(null));
    assert_eq!(parse("a: 1\n---\nb: 2\n", Format::Yaml).root().to_json(), json!([{"a": 1}, {"b": 2}]));
    assert_eq!(parse("\u{feff}a: 1\n", Format::Yaml).root().get("a").unwrap().span.start, 3);
}

#[test]
fn a_tab_in_front_of_a_yaml_line_is_found() {
    for text in
        ["id: x\ntasks:\n\t- name: a\n", "id: x\ntasks:\n  - name: a\n  \texpression: \"1\"\n\tb: 2\n"]
    {
        let error = Document::parse("t", text, Format::Yaml).expect_err(text);
        assert!(error.message().contains("indented with a tab"), "{text:?}: {error:?}");
        let tab = text.find('\t').unwrap();
        assert_eq!(error.span().map(|span| span.start), Some(tab), "{text:?}");
        assert_eq!(error.help_text(), Some("indent with spaces"));
    }
    // Where nothing is wrong, nobody minds: within a text, and on a line with nothing else.
    let text = "a: |\n  one\n  \ttwo\n\t\nb: [1,\n\t2]\n";
    assert_eq!(parse(text, Format::Yaml).root().to_json(), json!({"a": "one\n\ttwo\n", "b": [1, 2]}));
}

#[test]
fn yaml_anchors_and_merges_are_resolved() {
    let text = "base: &b {timeout: 5s, x: 1}\none: *b\ntwo:\n  <<: *b\n  x: 2\n";
    let document = parse(text, Format::Yaml);
    let expected = json!({"base": {"timeout": "5s", "x": 1}, "one": {"timeout": "5s", "x": 1}, "two": {"timeout": "5s", "x": 2}});
    assert_eq!(document.root().to_json(), expected);
    // The caret goes to where the value was written.
    let aliased = document.root().get("one").unwrap().get("timeout").unwrap();
    assert_eq!(aliased.span.slice(text), "5s");
}

#[test]
fn toml_reads_dates_as_text_and_all_number_forms() {
    let text = "a = 1979-05-27T07:32:00Z\nb = 0xDEAD_BEEF\nc = 1_000.5\nd = -9_223_372_036_854_775_808\ne = +7\nf = 1e3\n";
    let expected = json!({"a": "1979-05-27T07:32:00Z", "b": 0xDEAD_BEEF_u64, "c": 1000.5, "d": i64::MIN, "e": 7, "f": 1000.0});
    assert_eq!(parse(text, Format::Toml).root().to_json(), expected);
    assert!(wrong("a = 9223372036854775808\n", Format::Toml).contains("does not fit into 64 bits"));
}

#[test]
fn a_syntax_error_names_the_place() {
    let cases = [
        ("a: [1, 2\nb: 3\n", Format::Yaml, "this is not YAML"),
        ("a: 1\n b: 2\n", Format::Yaml, "t:2:"),
        ("a: *nope\n", Format::Yaml, "this alias has no anchor before it"),
        ("a = \n", Format::Toml, "t:1:"),
        ("a = [1,\n[b]\nx = = 2\n", Format::Toml, "this is not TOML"),
        ("{\"a\": 1,\n \"b\" 2}", Format::Json, "t:2:6"),
        ("{\"a\": 1", Format::Json, "this is not JSON: EOF while parsing an object"),
        ("", Format::Json, "this is not JSON: EOF while parsing a value"),
        ("\"\\ud800\"", Format::Json, "this is not JSON"),
        ("[1e999]", Format::Json, "t:1:2"),
        ("[01]", Format::Json, "this is not JSON"),
        ("{} {}", Format::Json, "t:1:4"),
    ];
    for (text, format, expected) in cases {
        let shown = wrong(text, format);
        assert!(shown.contains(expected), "{text:?} gives\n{shown}");
        assert!(shown.contains("t:"), "no place in\n{shown}");
    }
}

#[test]
fn a_key_written_twice_is_refused() {
    assert!(wrong("a: 1\nb: 2\na: 3\n", Format::Yaml).contains("`a` is written twice"));
    assert!(wrong("a: 1\nb: 2\na: 3\n", Format::Yaml).contains("t:3:1"));
    assert!(wrong("{\"a\": 1, \"\\u0061\": 2}", Format::Json).contains("`a` is written twice"));
    assert!(wrong("a = 1\na = 2\n", Format::Toml).contains("t:2:1"));
}

#[test]
fn numbers_without_a_json_form_are_refused() {
    for (text, format) in [
        ("a: .inf", Format::Yaml),
        ("a: .nan", Format::Yaml),
        ("a: 1e999", Format::Yaml),
        ("a = inf", Format::Toml),
        ("a = nan", Format::Toml),
    ] {
        let shown = wrong(text, format);
        assert!(shown.contains("not finite") && shown.contains("t:1:"), "{shown}");
    }
}

#[test]
fn a_confidential_text_is_never_shown() {
    let secret = "hunter2";
    for (text, format) in [
        ("jwt_secret = \"hunter2\"\njwt_secret = \"hunter2\"", Format::Toml),
        ("jwt_secret = hunter2", Format::Toml),
        ("jwt_secret: [hunter2\n", Format::Yaml),
        ("hunter2: 1\nhunter2: 2\n", Format::Yaml),
        ("{\"hunter2\": 1, \"hunter2\": 2}", Format::Json),
        ("{\"a\": hunter2}", Format::Json),
        ("jwt_secret: !!int hunter2\n", Format::Yaml),
        ("jwt_secret: !!binary hunter2\n", Format::Yaml),
    ] {
        let error = Document::parse_confidential("t", text, format).expect_err(text);
        for shown in [error.to_string(), format!("{error:?}"), error.render(true)] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn nesting_is_limited_in_every_format() {
    let deep = 10_000;
    let too_deep = [
        ("[".repeat(deep) + &"]".repeat(deep), Format::Json),
        ("{\"a\":".repeat(deep) + "1" + &"}".repeat(deep), Format::Json),
        ("[".repeat(deep) + &"]".repeat(deep), Format::Yaml),
        ("{a: ".repeat(deep) + "1" + &"}".repeat(deep), Format::Yaml),
        ((0..deep).map(|n| " ".repeat(n.min(2000)) + "a:\n").collect(), Format::Yaml),
        ("- ".repeat(deep), Format::Yaml),
        ("a = ".to_owned() + &"[".repeat(deep) + &"]".repeat(deep), Format::Toml),
        ("a = ".to_owned() + &"{a = ".repeat(deep) + "1" + &"}".repeat(deep), Format::Toml),
        ("a.".repeat(deep) + "a = 1\n", Format::Toml),
        ("[".to_owned() + &"a.".repeat(70) + "a]\n" + &"a.".repeat(70) + "a = 1\n", Format::Toml),
    ];
    for (text, format) in too_deep {
        assert!(Document::parse("t", &text, format).is_err(), "{format:?}");
    }
    for format in [Format::Yaml, Format::Json] {
        let fits = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(Document::parse("t", &fits, format).is_ok(), "{format:?}");
        let beyond = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        let shown = wrong(&beyond, format);
        assert!(shown.contains("nested") || shown.contains("recursion"), "{shown}");
    }
    let mut value = json!(1);
    for _ in 0..=MAX_DEPTH + 1 {
        value = json!([value]);
    }
    assert!(Document::from_json("body", value).unwrap_err().to_string().contains("nested deeper"));
}

#[test]
fn a_laughing_text_is_stopped() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    let started = std::time::Instant::now();
    assert!(wrong(&text, Format::Yaml).contains("too many values"));
    assert!(started.elapsed().as_secs() < 20);
    assert!(wrong("a: &a [*a]\n", Format::Yaml).contains("t:1:"));
}

#[test]
fn json_without_text_names_pointers() {
    let document = Document::from_json("body", json!({"a/b": [{"~": 1}]})).unwrap();
    let node = document.root().get("a/b").unwrap().as_sequence().unwrap()[0].get("~").unwrap();
    let error = document.error(node, "no");
    assert_eq!(error.field(), "/a~1b/0/~0");
    assert_eq!((error.line(), error.span()), (None, None));
}

#[test]
fn a_part_of_a_text_is_found_where_it_is_written_as_it_is() {
    let text = "a: \"x + nope\"\nb: \"x\\t+ nope\"\nc: |\n  x + nope\n";
    let document = parse(text, Format::Yaml);
    let at = |key: &str, range| {
        document.error_within(document.root().get(key).unwrap(), Some(range), "m").span().unwrap()
    };
    assert_eq!(at("a", 4..8).slice(text), "nope");
    assert_eq!(at("b", 4..8).slice(text), "\"x\\t+ nope\"");
    assert!(at("c", 4..8).slice(text).contains("nope"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_as_serde_json_reads_it(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(parse(&text, Format::Json).root().to_json(), read.clone());
        prop_assert_eq!(Document::from_json("t", value).unwrap().root().to_json(), read);
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,&*<\\-!|>'\"a1. \n#=\u{e9}]{0,80}") {
        for text in [&*String::from_utf8_lossy(&bytes), &*text] {
            for format in [Format::Yaml, Format::Toml, Format::Json] {
                match Document::parse("t", text, format) {
                    Ok(document) => drop(document.error(document.root(), "m").to_string()),
                    Err(error) => prop_assert!(!error.render(true).is_empty()),
                }
            }
        }
    }
}
