//! Text with `{{ expressions }}` in it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::{Expr, ExprError, Inputs, MAX_SOURCE, scan};

/// The longest text that a template may make, in bytes.
const MAX_OUTPUT: usize = 1 << 20;

/// A text in which `{{ expression }}` stands for the expression's value. There are no statements: what repeats or
/// decides is written as an expression. Cloning is cheap.
///
/// ```
/// use taskiq_flow_core::expr::{Inputs, Template};
///
/// let url = Template::compile("https://example.org/{{ name | urlencode }}?n={{ n + 1 }}").unwrap();
/// let inputs = Inputs::from_iter([("name", "a b".into()), ("n", 1.into())]);
/// assert_eq!(url.render(&inputs).unwrap(), "https://example.org/a%20b?n=2");
/// ```
///
/// Text stands as it is, every other value as JSON. `none` is refused, because it is rarely meant: write
/// `{{ x or '' }}`.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: String,
    parts: Vec<Part>,
    names: Vec<String>,
}

enum Part {
    Text(String),
    /// An expression and the byte of the template at which it starts.
    Value(Expr, usize),
}

/// A piece of a rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What the author wrote.
    Text(&'a str),
    /// What stood for an expression.
    Value(String),
}

impl Piece<'_> {
    /// Its text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Value(text) => text,
        }
    }
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// A placeholder that is not closed, a statement (`{% %}`), or a bad expression.
    pub fn compile(source: &str) -> Result<Self, ExprError> {
        if source.len() > MAX_SOURCE {
            return Err(ExprError::new(format!("the text is longer than {MAX_SOURCE} bytes")));
        }
        if let Some(at) = source.find("{%") {
            let message = "templates have no statements: use an expression in `{{ }}`".to_owned();
            return Err(ExprError { message, offset: Some(at..at + 2) });
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = source[at..].find("{{").map(|open| at + open) {
            if open > at {
                parts.push(Part::Text(source[at..open].to_owned()));
            }
            let start = open + 2;
            let end = scan::end_of_placeholder(&source[start..]).map(|end| start + end).ok_or_else(|| {
                ExprError { message: "this `{{` has no `}}`".to_owned(), offset: Some(open..start) }
            })?;
            let expr = Expr::compile(&source[start..end]).map_err(|error| error.moved(start))?;
            parts.push(Part::Value(expr, start));
            at = end + 2;
        }
        if at < source.len() {
            parts.push(Part::Text(source[at..].to_owned()));
        }
        let mut names: Vec<String> = parts.iter().flat_map(Part::names).cloned().collect();
        names.sort_unstable();
        names.dedup();
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), parts, names })))
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The names of the inputs it reads, sorted.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Where in the source `name` is first read.
    pub fn place_of(&self, name: &str) -> Option<std::ops::Range<usize>> {
        self.0.parts.iter().find_map(|part| match part {
            Part::Value(expr, start) => {
                expr.place_of(name).map(|place| place.start + start..place.end + start)
            }
            Part::Text(_) => None,
        })
    }

    /// The text before the first placeholder.
    pub fn prefix(&self) -> &str {
        match self.0.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it has no placeholder.
    pub fn is_constant(&self) -> bool {
        self.0.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text with the values in their places.
    ///
    /// # Errors
    /// Those of the expressions; a value that is `none`; more than 1 MiB of text.
    pub fn render(&self, inputs: &Inputs) -> Result<String, ExprError> {
        let pieces = self.render_pieces(inputs)?;
        Ok(pieces.iter().map(Piece::as_str).collect())
    }

    /// The same in pieces, for those to whom it matters what the author wrote and what was put in.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_pieces(&self, inputs: &Inputs) -> Result<Vec<Piece<'_>>, ExprError> {
        let (mut pieces, mut length) = (Vec::with_capacity(self.0.parts.len()), 0);
        for part in &self.0.parts {
            let piece = match part {
                Part::Text(text) => Piece::Text(text),
                Part::Value(expr, start) => match expr
                    .evaluate(inputs)
                    .map_err(|error| error.moved(*start))?
                {
                    Value::String(text) => Piece::Value(text),
                    Value::Null => {
                        let source = expr.source().trim();
                        let message =
                            format!("`{source}` is none: write `{{{{ {source} or '' }}}}` if it may be");
                        return Err(ExprError { message, offset: Some(*start..start + expr.source().len()) });
                    }
                    value => Piece::Value(value.to_string()),
                },
            };
            length += piece.as_str().len();
            if length > MAX_OUTPUT {
                return Err(ExprError::new(format!("the text becomes longer than {MAX_OUTPUT} bytes")));
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

impl Part {
    fn names(&self) -> &[String] {
        match self {
            Self::Text(_) => &[],
            Self::Value(expr, _) => expr.names(),
        }
    }
}

impl ExprError {
    fn moved(mut self, by: usize) -> Self {
        self.offset = self.offset.map(|range| range.start + by..range.end + by);
        self
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.0.source).finish()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}
