//! Every refusal, with its place: line and column of what is marked.

use proc_macro2::TokenStream;

use crate::duration::millis;
use crate::expand::task;

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
}

/// The message, and the text it marks.
fn refusal(options: &str, function: &str) -> (String, String) {
    let error = task(tokens(options), tokens(function)).unwrap_err();
    let (start, end) = (error.span().start(), error.span().end());
    assert_eq!((start.line, end.line), (1, 1), "the tests write everything on one line");
    // Both texts are parsed by themselves, so columns count in the one that is at fault.
    let marked = [options, function]
        .map(|text| text.chars().skip(start.column).take(end.column - start.column).collect::<String>());
    let [of_options, of_function] = marked;
    let in_options = task(TokenStream::new(), tokens(function)).is_ok();
    (error.to_string(), if in_options { of_options } else { of_function })
}

#[test]
fn functions_that_cannot_be_tasks_are_refused_where_they_cannot() {
    for (function, message, marked) in [
        ("fn f(&self) {}", "a task has no `self`: it is a function of its inputs", "&self"),
        (
            "async fn f<T>(x: T) {}",
            "a task cannot be generic: its inputs come as JSON and need one type each",
            "T",
        ),
        (
            "fn f<'a>(x: i64) {}",
            "a task cannot be generic: its inputs come as JSON and need one type each",
            "'a",
        ),
        ("unsafe fn f() {}", "a task cannot be `unsafe`", "unsafe"),
        ("const fn f() {}", "a task cannot be `const`", "const"),
        ("extern \"C\" fn f() {}", "a task cannot be `extern`", "extern \"C\""),
        ("fn f(text: &str) {}", "an input is owned: write `String`", "&str"),
        ("fn f(list: &[u8]) {}", "an input is owned: write `Vec<...>`", "&[u8]"),
        ("fn f(x: &Order) {}", "an input is owned: write the type without `&`", "&Order"),
        (
            "fn f(x: impl Into<String>) {}",
            "an input comes as JSON and needs one type: write it instead of `impl ...`",
            "impl Into<String>",
        ),
        (
            "fn f((a, b): (i64, i64)) {}",
            "the name of a parameter is the name of an input: write a name here, and take the value apart inside",
            "(a, b)",
        ),
        (
            "fn f(_: i64) {}",
            "the name of a parameter is the name of an input: write a name here, and take the value apart inside",
            "_",
        ),
        ("fn f(a: TaskContext, b: TaskContext) {}", "one `TaskContext` is enough", "TaskContext"),
        ("struct S;", "a task is made of a function with a body: expected `fn`", "struct"),
    ] {
        let (shown, place) = refusal("", function);
        assert_eq!((shown.as_str(), place.as_str()), (message, marked), "{function}");
    }
}

#[test]
fn options_that_mean_nothing_are_refused_where_they_stand() {
    let a_name = "a name has 1 to 128 bytes, no control characters, and no space around it";
    let a_duration =
        "expected a number and a unit out of ms, s, m, h, d, such as \"500ms\", \"30s\" or \"1h30m\"";
    for (options, message, marked) in [
        (
            "retry = 3",
            "unknown option; the options of a task are `name`, `output`, `outputs`, `retries`, `delay`, `backoff`, \
             `jitter`, `max_delay`, `max_time`, `retry_on`, `not_on`, `timeout`, `cache`, `cache_version`, `on_error`, `compensate`",
            "retry",
        ),
        ("compensate = \"undo\"", "expected the name of another task, without quotes", "\"undo\""),
        ("compensate = undo()", "expected the name of another task, without quotes", "undo()"),
        ("retries", "write `retries = ...`", "retries"),
        ("retries(3)", "write `retries = ...`", "retries(3)"),
        ("retries = 1, retries = 2", "`retries` stands here twice", "retries"),
        ("retries = -1", "expected how many further attempts there are, a whole number from 0 to 999", "-1"),
        (
            "retries = \"3\"",
            "expected how many further attempts there are, a whole number from 0 to 999",
            "\"3\"",
        ),
        ("name = 3", "expected a name in quotes", "3"),
        ("name = \"\"", a_name, "\"\""),
        ("name = \" a\"", a_name, "\" a\""),
        ("output = [\"a\"]", "expected a name in quotes", "[\"a\"]"),
        ("output = \"a\", outputs = [\"b\"]", "a task has `output` or `outputs`, not both", "outputs"),
        ("outputs = \"a\"", "expected a list of names, such as `[\"lines\", \"words\"]`", "\"a\""),
        ("outputs = []", "`outputs` has no names; leave it out, and the output is called as the task", "[]"),
        ("outputs = [\"a\", \"a\"]", "`a` stands here twice", "\"a\""),
        ("timeout = \"30\"", a_duration, "\"30\""),
        ("timeout = \"0s\"", a_duration, "\"0s\""),
        ("timeout = 30", "expected a duration in quotes, such as \"30s\"", "30"),
        ("cache = true", "expected a duration in quotes, such as \"30s\"", "true"),
        ("cache = \"0s\"", a_duration, "\"0s\""),
        ("cache_version = \"2\"", "this is about kept values: add `cache = \"1h\"` or another time", "\"2\""),
        ("delay = \"1s\"", "this is about further attempts: add `retries = 1` or more", "delay"),
        ("retry_on = [\"timeout\"]", "this is about further attempts: add `retries = 1` or more", "retry_on"),
        ("retries = 1, max_time = \"0s\"", a_duration, "\"0s\""),
        ("retries = 1, not_on = []", "this names no error; leave it out, or name one", "[]"),
        ("retries = 1, not_on = [3]", "expected the code of an error in quotes", "3"),
        (
            "retries = 1, retry_on = \"timeout\"",
            "expected a list of errors, such as `[\"timeout\", \"message ~ try again\"]`",
            "\"timeout\"",
        ),
        (
            "retries = 1, backoff = 0.5",
            "expected a number from 1 to 1000; 1 keeps the wait the same, 2 doubles it each time",
            "0.5",
        ),
        ("retries = 1, jitter = 1", "expected `true` or `false`", "1"),
        (
            "on_error = \"ignore\"",
            "expected \"fail\", \"continue\", \"skip_dependants\" or \"dead_letter\"",
            "\"ignore\"",
        ),
    ] {
        let (shown, place) = refusal(options, "fn f() {}");
        assert_eq!((shown.as_str(), place.as_str()), (message, marked), "{options}");
    }
}

#[test]
fn everything_at_once_is_made() {
    let options = "name = \"n\", outputs = [\"a\", \"b\"], retries = 2, delay = \"1s\", backoff = 2, jitter = false, \
                   max_delay = \"1m\", timeout = \"1m30s\", cache = \"1h\", cache_version = \"2\", on_error = \"continue\"";
    let function = "/// One.\n/// Two.\n///\n/// Three.\n#[cfg(unix)] #[must_use] pub async fn f(mut r#type: Vec<f64>, c: \
                    TaskContext, o: Option<std::string::String>) -> (i64, i64) { (1, 2) }";
    let made = task(tokens(options), tokens(function)).unwrap().to_string();
    for part in [
        "InputInfo :: new (\"type\" , \"Vec<f64>\" , false)",
        "InputInfo :: new (\"o\" , \"std::string::String\" , true)",
        "description (\"One. Two.\")",
        "timeout (90000u64)",
        "cache (3600000u64 , :: std :: option :: Option :: Some (\"2\"))",
        "on_error (\"continue\")",
        "pub async fn call (mut r#type : Vec < f64 >",
    ] {
        assert!(made.contains(part), "{part} in {made}");
    }
    assert_eq!(made.matches("# [cfg (unix)]").count(), 3);
    assert_eq!(made.matches("# [must_use]").count(), 1);
}

#[test]
fn durations_are_those_of_pipeline_files() {
    for (text, expected) in
        [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("0s", 0)]
    {
        assert_eq!(millis(text), Some(expected), "{text}");
    }
    for bad in ["", "5", "s", "-5s", "1m1h", "1s1s", "1e3s", "..s", "5 minutes", "99999999d", "1é"] {
        assert_eq!(millis(bad), None, "{bad}");
    }
}
