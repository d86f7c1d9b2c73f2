//! The words of an expression: enough to bound it, to name unknown filters and to find a name's place.

use std::ops::Range;

use super::ExprError;
use crate::diagnostic::nearest;

/// The most words, operators and literals of one expression. The compiler walks an expression's tree by recursion,
/// and a chain such as `a.b.c` or `1 + 1 + 1` makes a tree as deep as it is long.
pub(super) const MAX_TOKENS: usize = 600;

/// The deepest nesting of brackets: the parser uses most of its stack for them.
const MAX_BRACKETS: usize = 40;

/// The filters of expressions, by name.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "product",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// The tests of expressions (`x is odd`), by name.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// The functions of expressions, by name.
pub(super) const FUNCTIONS: &[&str] = &["dict", "range"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: TokenKind,
    range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Word,
    Literal,
    Sign,
}

/// Refuses what is too large, and filters and tests that do not exist.
pub(super) fn check(source: &str) -> Result<(), ExprError> {
    let tokens = tokens(source);
    if let Some(token) = tokens.get(MAX_TOKENS) {
        let message =
            format!("the expression is too long: more than {MAX_TOKENS} names, operators and values");
        return Err(ExprError { message, offset: Some(token.range.clone()) });
    }
    let text = |at: usize| tokens.get(at).map_or("", |token| &source[token.range.clone()]);
    let mut open = 0_usize;
    for token in tokens.iter().filter(|token| token.kind == TokenKind::Sign) {
        match &source[token.range.clone()] {
            "(" | "[" | "{" => open += 1,
            ")" | "]" | "}" => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_BRACKETS {
            let message =
                format!("the expression is nested too deep: more than {MAX_BRACKETS} brackets are open");
            return Err(ExprError { message, offset: Some(token.range.clone()) });
        }
    }
    let word = |at: usize| tokens.get(at).filter(|token| token.kind == TokenKind::Word);
    for (at, token) in tokens.iter().enumerate() {
        if text(at) == "|" && token.kind == TokenKind::Sign {
            let Some(name) = word(at + 1) else { continue };
            known("filter", FILTERS, source, name)?;
        }
        if text(at) == "is" && token.kind == TokenKind::Word && at > 0 && text(at - 1) != "." {
            let at = if text(at + 1) == "not" { at + 2 } else { at + 1 };
            let Some(name) = word(at) else { continue };
            known("test", TESTS, source, name)?;
        }
    }
    Ok(())
}

/// Where `name` is first used as a variable.
pub(super) fn place_of(source: &str, name: &str) -> Option<Range<usize>> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| &source[token.range.clone()]);
    let used = |at: &usize| {
        let before = at.checked_sub(1).map_or("", text);
        tokens[*at].kind == TokenKind::Word && text(*at) == name && before != "." && before != "|"
    };
    (0..tokens.len()).find(used).map(|at| tokens[at].range.clone())
}

/// The end of an expression that `}}` closes, counted from the start of `source`.
pub(super) fn end_of_placeholder(source: &str) -> Option<usize> {
    let mut open = 0_usize;
    let scan = Scan { source, at: 0 };
    for token in scan {
        if token.kind != TokenKind::Sign {
            continue;
        }
        match &source[token.range.clone()] {
            "(" | "[" | "{" => open += 1,
            "}" if open == 0 => {
                return source[token.range.start..].starts_with("}}").then_some(token.range.start);
            }
            ")" | "]" | "}" => open = open.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn known(what: &str, names: &'static [&str], source: &str, token: &Token) -> Result<(), ExprError> {
    let name = &source[token.range.clone()];
    if names.contains(&name) {
        return Ok(());
    }
    let fix = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the {what}s are: {}", names.join(", ")),
    };
    Err(ExprError {
        message: format!("there is no {what} `{name}`; {fix}"),
        offset: Some(token.range.clone()),
    })
}

fn tokens(source: &str) -> Vec<Token> {
    Scan { source, at: 0 }.take(MAX_TOKENS + 1).collect()
}

struct Scan<'a> {
    source: &'a str,
    at: usize,
}

impl Iterator for Scan<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.source[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.source[start..];
        let first = rest.chars().next()?;
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let (kind, length) = if first == '"' || first == '\'' {
            (TokenKind::Literal, string_length(rest, first))
        } else if in_word(first) {
            let kind = if first.is_ascii_digit() { TokenKind::Literal } else { TokenKind::Word };
            (kind, rest.find(|c| !in_word(c)).unwrap_or(rest.len()))
        } else {
            (TokenKind::Sign, first.len_utf8())
        };
        self.at = start + length;
        Some(Token { kind, range: start..self.at })
    }
}

fn string_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}
