//! The fields of an HTTP request.

use crate::definition::{HttpMethod, HttpResponse, HttpSpec};
use crate::document::{Node, NodeValue};
use crate::expr::Template;

use super::reader::Reader;
use super::scope::Scope;

const HTTP_FIELDS: &[&str] = &["method", "url", "query", "headers", "json", "response"];

const METHODS: &[(&str, HttpMethod)] = &[
    ("GET", HttpMethod::Get),
    ("HEAD", HttpMethod::Head),
    ("POST", HttpMethod::Post),
    ("PUT", HttpMethod::Put),
    ("PATCH", HttpMethod::Patch),
    ("DELETE", HttpMethod::Delete),
];

const RESPONSES: &[(&str, HttpResponse)] = &[("body", HttpResponse::Body), ("full", HttpResponse::Full)];

impl Reader<'_> {
    pub(super) fn http(&mut self, node: &Node, scope: &Scope) -> Option<HttpSpec> {
        let fields = self.fields(node, "an http request", HTTP_FIELDS)?;
        let method =
            fields.get("method").map_or(Some(HttpMethod::Get), |method| self.choice(method, METHODS));
        let url = match fields.get("url") {
            Some(url) => self.url(url, scope),
            None => {
                self.missing(fields, "url", "write `url: https://...`");
                None
            }
        };
        let query = fields.get("query").map_or(Some(Vec::new()), |query| self.pairs(query, scope));
        let headers = fields.get("headers").map_or(Some(Vec::new()), |headers| self.headers(headers, scope));
        let json = fields.get("json").and_then(|json| self.checked_expr(json, scope));
        let response =
            fields.get("response").map_or(Some(HttpResponse::Body), |word| self.choice(word, RESPONSES));
        Some(HttpSpec {
            method: method?,
            url: url?,
            query: query?,
            headers: headers?,
            json,
            response: response?,
        })
    }

    fn url(&mut self, node: &Node, scope: &Scope) -> Option<Template> {
        let url = self.checked_template(node, scope)?;
        let prefix = url.prefix().to_ascii_lowercase();
        // An address that starts with a placeholder is checked when the request is made.
        let unknown = prefix.is_empty() && !url.is_constant();
        if !unknown && !prefix.starts_with("http://") && !prefix.starts_with("https://") {
            self.wrong(
                node,
                "the address does not start with `http://` or `https://`",
                "write the scheme in front",
            );
            return None;
        }
        Some(url)
    }

    fn checked_template(&mut self, node: &Node, scope: &Scope) -> Option<Template> {
        let template = self.template(node)?;
        self.check_names(node, template.names(), |name| template.place_of(name), scope);
        Some(template)
    }

    /// Names and texts; a list repeats the name.
    fn pairs(&mut self, node: &Node, scope: &Scope) -> Option<Vec<(String, Template)>> {
        let mut pairs = Vec::new();
        for (key, value) in self.mapping(node, "names and texts", "write `{ name: text }`")?.entries {
            let values = match &value.value {
                NodeValue::Sequence(items) => items.as_slice(),
                _ => std::slice::from_ref(value),
            };
            for value in values {
                pairs.push((key.text.clone(), self.checked_template(value, scope)?));
            }
        }
        Some(pairs)
    }

    fn headers(&mut self, node: &Node, scope: &Scope) -> Option<Vec<(String, Template)>> {
        let pairs = self.pairs(node, scope)?;
        for (key, value) in node.as_mapping().unwrap_or_default() {
            // A token of RFC 9110, section 5.6.2.
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if key.text.is_empty() || !key.text.chars().all(token) {
                let error = self.document().error_at_key(key, value, "this is no name of a header");
                self.fail(error.help("use letters, digits and `-`"));
            }
            if value.as_str().is_some_and(|text| text.contains(|c: char| c.is_control() && c != '\t')) {
                self.wrong(value, "the text of a header is one line without control characters", "");
            }
        }
        Some(pairs)
    }
}
