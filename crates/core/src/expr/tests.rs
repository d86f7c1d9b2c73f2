use proptest::prelude::*;
use serde_json::json;

use super::*;

fn inputs(object: Value) -> Inputs {
    let Value::Object(object) = object else { panic!("an object") };
    object.into()
}

fn evaluate(source: &str, object: Value) -> Value {
    let expr = Expr::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    expr.evaluate(&inputs(object)).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn refused(source: &str, object: Value) -> ExprError {
    match Expr::compile(source) {
        Err(error) => error,
        Ok(expr) => expr.evaluate(&inputs(object)).expect_err(source),
    }
}

#[test]
fn values_keep_their_json_types() {
    let big = u64::MAX;
    let cases = [
        ("a + 1", json!({"a": 1}), json!(2)),
        ("a", json!({"a": big}), json!(big)),
        ("a", json!({"a": i64::MIN}), json!(i64::MIN)),
        ("a", json!({"a": 1.0}), json!(1.0)),
        ("7 / 2", json!({}), json!(3.5)),
        ("7 // 2", json!({}), json!(3)),
        ("[value] * 4", json!({"value": 5}), json!([5, 5, 5, 5])),
        ("[[1, 2], ['a', 'b']] | product", json!({}), json!([[1, "a"], [1, "b"], [2, "a"], [2, "b"]])),
        (
            "{'rate': rates, 'depth': range(2)} | product",
            json!({"rates": [0.1, 0.2]}),
            json!([{"depth": 0, "rate": 0.1}, {"depth": 0, "rate": 0.2}, {"depth": 1, "rate": 0.1}, {"depth": 1, "rate": 0.2}]),
        ),
        ("[[1, 2], []] | product", json!({}), json!([])),
        ("[] | product", json!({}), json!([[]])),
        ("value | sum", json!({"value": [1, 2, 3]}), json!(6)),
        ("value | length", json!({"value": [1, 2, 3]}), json!(3)),
        ("a or b", json!({"a": null, "b": {"x": 1}}), json!({"x": 1})),
        ("'A' if c else 'B'", json!({"c": false}), json!("B")),
        ("none", json!({}), json!(null)),
        ("n % 2 == 0", json!({"n": 4}), json!(true)),
        (
            "{'approved': true, 'by': ['rule', none]}",
            json!({}),
            json!({"approved": true, "by": ["rule", null]}),
        ),
        ("{'z': 1, 'a': 2}", json!({}), json!({"z": 1, "a": 2})),
        ("x['a b'].c[1]", json!({"x": {"a b": {"c": [1, "é"]}}}), json!("é")),
        ("xs | map('upper') | list", json!({"xs": ["a"]}), json!(["A"])),
        ("xs | map('upper')", json!({"xs": ["a"]}), json!(["A"])),
        ("range(3)", json!({}), json!([0, 1, 2])),
        ("x | default('d') if x is defined else 'u'", json!({"x": 1}), json!(1)),
        ("'a&<b' ~ 1", json!({}), json!("a&<b1")),
        ("x | tojson", json!({"x": {"k": "<"}}), json!("{\"k\": \"\\u003c\"}")),
        ("'a b/é' | urlencode", json!({}), json!("a%20b%2F%C3%A9")),
        ("{1: 'x'}", json!({}), json!({"1": "x"})),
        ("dict(a=1)", json!({}), json!({"a": 1})),
    ];
    for (source, given, expected) in cases {
        assert_eq!(evaluate(source, given), expected, "{source}");
    }
}

#[test]
fn a_mapping_keeps_the_order_of_its_keys_or_sorts_them_but_loses_none() {
    assert_eq!(evaluate("x", json!({"x": {"b": 1, "a": 2}})), json!({"b": 1, "a": 2}));
}

#[test]
fn names_are_those_that_are_read() {
    let expr = Expr::compile("xs | map(attribute='k') | sum + y.z[i] + range(n) | length").unwrap();
    assert_eq!(expr.names(), ["i", "n", "xs", "y"]);
    assert_eq!(expr.place_of("i"), Some(36..37));
    assert_eq!(Expr::compile("true and none is none and 1 == 1").unwrap().names(), [""; 0]);
    assert_eq!(format!("{:?}", Expr::compile("a").unwrap()), "Expr(\"a\")");
}

#[test]
fn a_name_without_an_input_is_named() {
    for source in
        ["nope", "nope + 1", "nope.x", "'a' ~ nope", "nope and 1", "nope | length", "[nope]", "{'a': nope}"]
    {
        let error = refused(source, json!({"a": 1}));
        assert!(error.message.contains("not defined"), "{source}: {error}");
    }
    assert_eq!(refused("1 + nope", json!({})).message, "`nope` is not defined");
    assert_eq!(refused("nope", json!({})).offset, Some(0..4));
    assert!(refused("a.b.c", json!({"a": {}})).message.contains("`a.b` is not defined"));
    assert!(refused("a.b", json!({"a": {}})).message.contains("not defined"));
    assert!(Expr::compile("nope").unwrap().is_true(&Inputs::default()).is_err());
    // Why: as with a signal that came without a value.
    for source in ["a.b", "a.b == 1", "a.b.c", "a.b and c"] {
        let error = refused(source, json!({"a": null, "c": 1}));
        assert!(error.message.ends_with("; `a` is null"), "{source}: {error}");
    }
    assert!(refused("a.b.c and d.e", json!({"a": null, "d": null})).message.contains("`a` and `d` are null"));
}

#[test]
fn bad_syntax_names_its_place() {
    let error = Expr::compile("a + ").unwrap_err();
    assert!(error.message.contains("syntax error"), "{error}");
    let error = Expr::compile("a + (b").unwrap_err();
    assert!(error.offset.is_some(), "{error:?}");
    for source in ["", "  ", "a b", "{{ a }}", "{% if a %}", "'open", "a |", "a is", "1 +* 2", "a[", "\u{0}"]
    {
        assert!(Expr::compile(source).is_err(), "{source:?}");
    }
}

#[test]
fn unknown_filters_and_tests_are_refused_when_compiled() {
    let error = Expr::compile("xs | lenght").unwrap_err();
    assert_eq!(error.message, "there is no filter `lenght`; did you mean `length`?");
    assert_eq!(error.offset, Some(5..11));
    assert_eq!(
        Expr::compile("x is not evn").unwrap_err().message,
        "there is no test `evn`; did you mean `even`?"
    );
    assert!(Expr::compile("x | safe").is_err() && Expr::compile("x | pprint").is_err());
    assert!(Expr::compile("'a | b' ~ \"x is y\" ~ a.is").is_ok());
}

#[test]
fn every_listed_filter_test_and_function_exists() {
    for filter in scan::FILTERS {
        if let Err(error) =
            Expr::compile(&format!("x | {filter}")).unwrap().evaluate(&inputs(json!({"x": [1]})))
        {
            assert!(!error.message.contains("unknown"), "{filter}: {error}");
        }
    }
    for test in scan::TESTS {
        match Expr::compile(&format!("x is {test}")) {
            Ok(expr) => {
                if let Err(error) = expr.evaluate(&inputs(json!({"x": 1}))) {
                    assert!(!error.message.contains("unknown"), "{test}: {error}");
                }
            }
            Err(error) => panic!("{test}: {error}"),
        }
    }
    for function in scan::FUNCTIONS {
        assert!(Expr::compile(&format!("{function}()")).unwrap().names().is_empty());
    }
    assert_eq!(refused("debug()", json!({})).message, "unknown function: debug is unknown");
}

#[test]
fn results_that_json_cannot_hold_are_refused() {
    let cases = [
        ("1e308 * 10", "finite"),
        ("range", "JSON"),
        ("{none: 1}", "key"),
        ("18446744073709551615 + 1", "64 bits"),
    ];
    for (source, expected) in cases {
        let error = refused(source, json!({}));
        assert!(error.message.contains(expected), "{source}: {error}");
    }
}

#[test]
fn format_takes_keys_in_ascii_and_refuses_others() {
    let given = || json!({"m": {"n": 5, "größe": 5}});
    for (source, expected) in [
        ("'%(n)03d é' | format(m)", Some("005 é")),
        ("'100 %% (größe) %(n)s' | format(m)", Some("100 % (größe) 5")),
        ("'100 %%(größe)' | format(m)", Some("100 %(größe)")),
        ("'%s (größe)' | format(1)", Some("1 (größe)")),
        ("'%(größe)s' | format(m)", None),
        ("'%(größe' | format(m)", None),
        ("'%%%(größe)s' | format(m)", None),
        ("'%(n)s%(größe)s' | format(m)", None),
        ("'%5%%(größe)s' | format(m)", None),
    ] {
        match expected {
            Some(text) => assert_eq!(evaluate(source, given()), text, "{source}"),
            None => {
                let error = refused(source, given());
                assert!(!error.message.contains("größe"), "{error}");
            }
        }
    }
    let error = refused("'%(größe)s' | format(m)", given());
    assert!(error.message.contains("must be ASCII"), "{error}");
}

#[test]
fn work_and_memory_are_bounded() {
    let started = std::time::Instant::now();
    let bombs = [
        "'A' * 10**9",
        "[0] * 10**9",
        "[[0] * 99999] * 99999",
        "(range(99999) | list | join) * 99999",
        "range(10**12) | list",
        "[range(99999) | list, range(99999) | list] | map('sort') | list | tojson | length * 10**9 * ['x']",
        "((('x' * 9999) ~ ('x' * 9999)) * 9999) | length",
        "10 ** 10 ** 10",
        "'%0999999999d' | format(1)",
        "'a' | replace('', 'b' * 99999) | replace('b', 'c' * 99999)",
        "1 | indent(10**10)",
        "[1,2,3] | batch(10**10, 0) | list",
        "[1,2,3] | slice(10**10, 0) | list",
    ];
    for bomb in bombs {
        let error = refused(bomb, json!({}));
        assert!(!error.message.is_empty(), "{bomb}");
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    let nested = json!({"x": vec![vec![0; 100]; 1000]});
    assert_eq!(evaluate("x | length", nested), json!(1000));
}

#[test]
fn long_and_deep_sources_are_refused_or_fit_the_stack() {
    let chain = |link: &str, count: usize| format!("x{}", link.repeat(count));
    for count in [10, 39, 149, 299, 599, 700, 2000] {
        for source in [
            chain(" + 1", count),
            chain(".a", count),
            chain("[0]", count),
            chain(" | abs", count),
            chain(" ~ x", count),
            chain(" and x", count),
            chain(" or x", count),
            chain(" == x", count),
            chain(" ** 1", count),
            chain(" if x else x", count),
            chain("()", count),
            chain(" is odd", count),
            "not ".repeat(count) + "x",
            "-".repeat(count) + "x",
            "(".repeat(count) + "x" + &")".repeat(count),
            "[".repeat(count) + "x" + &"]".repeat(count),
            "{'a':".repeat(count) + "x" + &"}".repeat(count),
            "f(".repeat(count) + "x" + &")".repeat(count),
        ] {
            if let Ok(expr) = Expr::compile(&source) {
                let _ = expr.evaluate(&inputs(json!({"x": 1})));
            }
        }
    }
    assert!(Expr::compile(&"(".repeat(5000)).is_err());
    assert!(Expr::compile(&"a".repeat(MAX_SOURCE + 1)).unwrap_err().message.contains("longer than"));
    assert!(Expr::compile(&chain(" + 1", 700)).unwrap_err().message.contains("too long"));
}

#[test]
fn no_message_holds_a_value() {
    let secret = "hunter2";
    let given = || json!({"s": secret, "m": {secret: secret}, "l": [secret], "n": 5});
    for source in [
        "s + 1",
        "s | int",
        "s | float",
        "s - 1",
        "s.x.y",
        "m.x.y",
        "l[9].z",
        "s()",
        "m.f()",
        "s | sum",
        "n | join(s) | int",
        "s | round",
        "l | map('int') | list",
        "{m: 1}",
        "s | batch",
        "s < 1 and s.x.y",
        "n[s].x",
        "m[s].x.y",
        "s | attr(s) | int",
        "s | format(1)",
        "l | groupby(s)",
        "l | map(s)",
        "l | select(s) | list",
        "range(s)",
        "s % 2",
        "n in n",
        "s | abs",
        "s | items",
    ] {
        let error = match Expr::compile(source).unwrap().evaluate(&inputs(given())) {
            Err(error) => error,
            Ok(_) => continue,
        };
        assert!(!format!("{error} {error:?}").contains(secret), "{source}: {error}");
    }
    assert!(!format!("{:?}", inputs(given())).contains(secret));
}

#[test]
fn an_input_that_is_not_read_is_not_converted() {
    let long: Vec<u32> = (0..200_000).collect();
    let inputs = inputs(json!({"long": long, "n": 1}));
    let expr = Expr::compile("n + 1").unwrap();
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(expr.evaluate(&inputs).unwrap(), 2);
    }
    assert!(started.elapsed().as_millis() < 2000, "{:?}", started.elapsed());
}

#[test]
fn inputs_keep_order_and_replace_in_place() {
    let mut given = inputs(json!({"b": 1, "a": 2}));
    given.insert("b".into(), Arc::new(json!(3)));
    given.insert("c".into(), Arc::new(json!(4)));
    assert_eq!(Value::Object(given.to_json_object()).to_string(), "{\"b\":3,\"a\":2,\"c\":4}");
    assert_eq!(given.len(), 3);
}

#[test]
fn who_changes_inputs_changes_those_of_nobody_else() {
    let names: Arc<[Arc<str>]> = ["b".into(), "a".into()].into();
    let values = || [json!(1), json!(2)].map(Arc::new).into_iter();
    let (mut changed, other) = (Inputs::of_unique(&names, values()), Inputs::of_unique(&names, values()));
    assert_eq!(changed, inputs(json!({"b": 1, "a": 2})), "whosever the names are");
    changed.remove("none");
    changed.remove("b");
    changed.insert("c".into(), Arc::new(json!(3)));
    changed.insert("a".into(), Arc::new(json!(4)));
    assert_eq!(changed, inputs(json!({"a": 4, "c": 3})));
    assert_eq!((other.len(), other.get("b"), other.get("c")), (2, Some(&Arc::new(json!(1))), None));
    assert_eq!(Value::Object(other.to_json_object()), json!({"b": 1, "a": 2}));
}

#[test]
fn templates_put_values_into_text() {
    let given = inputs(json!({"a": "x y", "n": 2, "m": {"k": [1]}, "none": null}));
    let render = |source: &str| Template::compile(source).and_then(|template| template.render(&given));
    assert_eq!(render("plain } {").unwrap(), "plain } {");
    assert_eq!(render("{{a}}-{{ n + 1 }}-{{ m }}").unwrap(), "x y-3-{\"k\":[1]}");
    assert_eq!(render("{{ {'k': {'j': '}}'}}['k']['j'] }}").unwrap(), "}}");
    assert!(render("{{ m.k | first == 1 }}").unwrap() == "true");
    assert_eq!(render("{{ nope }}").unwrap_err().offset, Some(3..7));
    assert!(render("{{ none_ or '' }}").is_err());
    assert_eq!(render("a {{ b").unwrap_err().message, "this `{{` has no `}}`");
    assert_eq!(render("{% for x in y %}").unwrap_err().offset, Some(0..2));
    assert!(render("ab {{ 1 + }}").unwrap_err().message.contains("syntax error"));
    assert!(render("{{ m.k[0] if false else none }}").unwrap_err().message.contains("is none"));
    let template = Template::compile("http://{{ b }}/{{ a }}").unwrap();
    assert_eq!((template.prefix(), template.names()), ("http://", &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(template.place_of("a"), Some(18..19));
    assert!(!template.is_constant());
}

proptest! {
    #[test]
    fn nothing_panics(source in "[a-c0-9'\"\\[\\](){}|+*/%~.,:=<>! \\\\-]{0,40}", other in any::<String>()) {
        for source in [&source, &other] {
            let given = inputs(json!({"a": 1, "b": [1, "x"], "c": {"a": null}}));
            if let Ok(expr) = Expr::compile(source) {
                let _ = (expr.evaluate(&given), expr.is_true(&given));
            }
            if let Ok(template) = Template::compile(source) {
                let _ = template.render(&given);
            }
        }
    }
}

#[test]
fn a_product_is_of_lists_and_bounded() {
    for (source, message) in [
        ("5 | product", "takes a list of lists"),
        ("'ab' | product", "takes a list of lists"),
        ("[1, [2]] | product", "takes a list of lists"),
        ("{'a': 'bc'} | product", "takes a list of lists"),
        ("[range(400), range(400)] | product", "more than 100000 combinations"),
        (
            "[range(100), range(100), range(100), range(100), range(100)] | product",
            "more than 100000 combinations",
        ),
    ] {
        let error = refused(source, json!({}));
        assert!(error.message.contains(message), "{source}: {error}");
    }
    // Lists of one item make no more combinations, but work and memory all the same.
    let too_much = "does too much work";
    let error = refused("([[1]] * 100000000) | product", json!({}));
    assert!(error.message.contains(too_much), "{error}");
    let mut grid = vec![json!([0, 1]); 16];
    grid.extend(vec![json!([0]); 100_000]);
    let error = refused("grid | product", json!({"grid": grid}));
    assert!(error.message.contains(too_much), "{error}");
    let made = Expr::compile("[range(100), range(1000)] | product | length").unwrap();
    assert_eq!(made.evaluate(&inputs(json!({}))).unwrap(), 100_000);
}
