//! Which failures a retry policy speaks of.

use std::fmt;
use std::str::FromStr;

use crate::diagnostic::nearest;
use crate::pattern::fits;

/// The longest rule, in bytes.
const MAX_RULE: usize = 256;

/// What stands before the text that a message must have in it.
const MESSAGE: &str = "message";

/// The words behind `run:`: what an inner run may have come to.
const RUN_CODES: &[&str] = &["failed", "cancelled", "timed_out", "refused"];

/// One entry of `retry_on` or `not_on`: a code of an error, in which `*` stands for anything, or a part of its message.
///
/// ```
/// use taskiq_flow_core::definition::ErrorRule;
///
/// let rule: ErrorRule = "http:5*".parse().unwrap();
/// assert!(rule.matches("http:503", "the service answered 503") && !rule.matches("http:404", ""));
/// let rule: ErrorRule = "message ~ try again".parse().unwrap();
/// assert!(rule.matches("error", "busy, try again later"));
/// assert!("http:5xx".parse::<ErrorRule>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRule {
    text: String,
    /// Where the part of the message begins in the text; none: it is a code.
    part: Option<usize>,
}

/// A text that is no rule about errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadErrorRule {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl ErrorRule {
    /// Whether it speaks of an error with that code and message.
    pub fn matches(&self, code: &str, message: &str) -> bool {
        match self.part {
            Some(start) => message.contains(&self.text[start..]),
            None => fits(&self.text, code),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for ErrorRule {
    type Err = BadErrorRule;

    fn from_str(text: &str) -> Result<Self, BadErrorRule> {
        let bad = |message: String, help: String| BadErrorRule { message, help };
        let forms =
            "write a code such as `exit:3`, `http:5*`, `timeout` or `panic`, or `message ~ some text`";
        if text.len() > MAX_RULE || text.chars().any(char::is_control) {
            let message =
                format!("a rule about errors has at most {MAX_RULE} bytes and no control characters");
            return Err(bad(message, forms.to_owned()));
        }
        if let Some((before, part)) = text.split_once('~')
            && before.trim_end() == MESSAGE
        {
            let part = part.trim();
            if part.is_empty() {
                return Err(bad("no text stands behind `message ~`".to_owned(), forms.to_owned()));
            }
            let text = format!("{MESSAGE} ~ {part}");
            let start = text.len() - part.len();
            return Ok(Self { text, part: Some(start) });
        }
        if text.is_empty() || text.chars().any(char::is_whitespace) {
            return Err(bad(format!("`{text}` is no code of an error"), forms.to_owned()));
        }
        let digits =
            |rest: &str| !rest.is_empty() && rest.chars().all(|sign| sign.is_ascii_digit() || sign == '*');
        let never = |help: String| bad(format!("no error has the code `{text}`"), help);
        match text.split_once(':') {
            Some(("http", rest)) if !digits(rest) && rest != "request" => {
                let help = "write a status such as `http:503`, `http:5*` for all that begin with 5, or `http:request` where no answer came";
                return Err(never(help.to_owned()));
            }
            Some((kind @ ("exit" | "signal"), rest)) if !digits(rest) => {
                return Err(never(format!("write a number behind it, such as `{kind}:3`, or `{kind}:*`")));
            }
            Some(("run", rest)) if !rest.contains('*') && !RUN_CODES.contains(&rest) => {
                let near = nearest(rest, RUN_CODES.iter().copied());
                let help = near.map_or_else(
                    || format!("behind `run:` stands one of {}, or `*`", RUN_CODES.join(", ")),
                    |near| format!("did you mean `run:{near}`?"),
                );
                return Err(never(help));
            }
            _ => {}
        }
        Ok(Self { text: text.to_owned(), part: None })
    }
}

impl fmt::Display for ErrorRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_can_never_hold_is_refused_with_what_to_write() {
        for (text, message, help) in [
            ("http:5xx", "no error has the code `http:5xx`", "`http:5*`"),
            ("exit:three", "no error has the code `exit:three`", "`exit:3`"),
            ("run:fialed", "no error has the code `run:fialed`", "did you mean `run:failed`?"),
            ("message ~ ", "no text stands behind `message ~`", "`message ~ some text`"),
            ("connection lost", "`connection lost` is no code of an error", "`message ~ some text`"),
            ("", "`` is no code of an error", "`exit:3`"),
        ] {
            let error = text.parse::<ErrorRule>().unwrap_err();
            assert_eq!(error.message, message);
            assert!(error.help.contains(help), "{}", error.help);
        }
    }
}
