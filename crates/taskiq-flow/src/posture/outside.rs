//! What can be seen of a running server from outside, by somebody who has no credential.
//!
//! What was seen is put together by whoever asks the server (`taskiq-flow security check --url`); here it is judged.

use super::Found;

/// A year, in seconds: the least that HSTS must say (ASVS 3.4.1).
const HSTS_SECONDS: u64 = 31_536_000;
/// The origin of a page that no server allows.
pub const FOREIGN_ORIGIN: &str = "https://foreign.invalid";
/// What everybody asks to learn who he is.
pub const WHO: &str = "GET /me";

/// Headers that every answer should have, and what one of them must begin with.
const HEADERS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", ""),
    ("referrer-policy", ""),
    ("cross-origin-resource-policy", "same-"),
    ("cross-origin-opener-policy", "same-origin"),
];
/// What errors of programs look like, and no problem document does.
const ENTRAILS: [&str; 6] =
    ["panicked at", "stack backtrace", "Traceback (most recent", "/src/", ".rs:", "Exception in"];

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Answers to requests without a credential, over TLS or as a proxy that ends it would pass them on.
    pub answers: Vec<Seen>,
    /// The answer to [`WHO`] in the clear; none: nothing answers there.
    pub plain: Option<Seen>,
    /// The answer to a request of a page at [`FOREIGN_ORIGIN`].
    pub foreign: Option<Seen>,
    /// Versions of TLS before 1.2 that the server goes on with.
    pub old_tls: Vec<&'static str>,
    /// Whether a WebSocket without a credential was let in.
    pub anonymous_socket: bool,
    /// What came of guessing keys.
    pub guesses: Guesses,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Method and path.
    pub request: String,
    /// Its status.
    pub status: u16,
    /// Its headers, by name in lower case.
    pub headers: Vec<(String, String)>,
    /// As much of its body as was read.
    pub body: String,
}

/// What came of guessing keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guesses {
    /// Nobody tried.
    #[default]
    Untried,
    /// After so many the server refused to look at more.
    LimitedAfter(u32),
    /// It looked at all of so many.
    Unlimited(u32),
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Outside {
    fn answer(&self, request: &str) -> Option<&Seen> {
        self.answers.iter().find(|seen| seen.request == request)
    }

    /// The requests of those answers that are so, as one field.
    fn requests(&self, so: impl Fn(&Seen) -> bool) -> Option<String> {
        let requests: Vec<_> =
            self.answers.iter().filter(|seen| so(seen)).map(|seen| seen.request.as_str()).collect();
        (!requests.is_empty()).then(|| requests.join(", "))
    }
}

pub(super) fn security_off(seen: &Outside) -> Vec<Found> {
    let open = seen.answer(WHO).filter(|answer| answer.is_good());
    open.map(|_| Found::high(WHO, "is answered without a credential")).into_iter().collect()
}

/// What a server says that refuses plain HTTP: 403 `https-required`; 400 on a port of TLS; a redirect; 421, 426.
pub(super) fn https_off(seen: &Outside) -> Vec<Found> {
    let Some(plain) = &seen.plain else { return Vec::new() };
    let refused = matches!(plain.status, 300..400 | 400 | 403 | 421 | 426 | 500..);
    let what = || {
        format!(
            "in the clear it is answered {}: a key that is sent there can be read on the way",
            plain.status
        )
    };
    if refused { Vec::new() } else { vec![Found::high(&plain.request, what())] }
}

pub(super) fn redirects(seen: &Outside) -> Vec<Found> {
    let redirect = seen.plain.as_ref().filter(|plain| (300..400).contains(&plain.status));
    let what =
        "in the clear it is redirected: the key has been sent by then, and the mistake stays unnoticed";
    redirect.map(|plain| Found::low(&plain.request, what)).into_iter().collect()
}

pub(super) fn old_tls(seen: &Outside) -> Vec<Found> {
    seen.old_tls.iter().map(|version| Found::medium(*version, format!("{version} is spoken"))).collect()
}

pub(super) fn missing_hsts(seen: &Outside) -> Vec<Found> {
    let short = |answer: &Seen| {
        let header = answer.header("strict-transport-security").unwrap_or_default().to_ascii_lowercase();
        let seconds =
            header.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
        seconds.is_none_or(|seconds| seconds < HSTS_SECONDS)
    };
    let what = |requests| {
        let what = format!("Strict-Transport-Security of a year or more is not on {requests}");
        Found::medium("strict-transport-security", what)
    };
    seen.requests(short).map(what).into_iter().collect()
}

pub(super) fn missing_headers(seen: &Outside) -> Vec<Found> {
    let missing = |(name, start): &(&str, &str)| {
        let bad = |answer: &Seen| !answer.header(name).is_some_and(|value| value.starts_with(start));
        let requests = seen.requests(bad)?;
        let wanted = if start.is_empty() { String::new() } else { format!(" `{start}…`") };
        Some(Found::low(*name, format!("the header{wanted} is not on {requests}")))
    };
    HEADERS.iter().filter_map(missing).collect()
}

pub(super) fn told_versions(seen: &Outside) -> Vec<Found> {
    let told = |name: &'static str| {
        let value = seen.answers.iter().find_map(|answer| answer.header(name))?;
        value
            .contains(|c: char| c.is_ascii_digit())
            .then(|| Found::low(name, format!("says `{}`", value.escape_debug())))
    };
    ["server", "x-powered-by", "via"].into_iter().filter_map(told).collect()
}

pub(super) fn foreign_pages(seen: &Outside) -> Vec<Found> {
    let Some(answer) = &seen.foreign else { return Vec::new() };
    let allowed =
        answer.header("access-control-allow-origin").filter(|origin| ["*", FOREIGN_ORIGIN].contains(origin));
    let what = |_| Found::medium("access-control-allow-origin", "pages of any origin may read answers");
    allowed.map(what).into_iter().collect()
}

pub(super) fn open_documents(seen: &Outside) -> Vec<Found> {
    let open = |answer: &Seen| {
        answer.is_good() && ["GET /docs", "GET /openapi.json"].contains(&answer.request.as_str())
    };
    let found = |requests: String| Found::low(requests, "answered without a credential");
    seen.requests(open).map(found).into_iter().collect()
}

pub(super) fn open_metrics(seen: &Outside) -> Vec<Found> {
    let open = |answer: &Seen| answer.is_good() && answer.request == "GET /metrics";
    let found = |request: String| Found::medium(request, "answered without a credential");
    seen.requests(open).map(found).into_iter().collect()
}

pub(super) fn talkative_errors(seen: &Outside) -> Vec<Found> {
    let mut found = Vec::new();
    let error = |answer: &Seen| answer.status >= 400;
    if let Some(requests) =
        seen.requests(|answer| error(answer) && ENTRAILS.iter().any(|part| answer.body.contains(part)))
    {
        found.push(Found::medium(requests, "the body of the error shows the inside of a program"));
    }
    let other =
        |answer: &Seen| error(answer) && answer.header("content-type") != Some("application/problem+json");
    if let Some(requests) = seen.requests(other) {
        found.push(Found::low(
            requests,
            "the error is no problem document (RFC 9457): something before the server answers",
        ));
    }
    found
}

pub(super) fn trace(seen: &Outside) -> Vec<Found> {
    let answered = seen.requests(|answer| answer.request.starts_with("TRACE ") && answer.is_good());
    answered.map(|request| Found::low(request, "is answered")).into_iter().collect()
}

pub(super) fn no_limits(seen: &Outside) -> Vec<Found> {
    let Some(answer) = seen.answer(WHO) else { return Vec::new() };
    let limited = answer.header("ratelimit-policy").is_some() || answer.header("ratelimit").is_some();
    let what = "the answer names no rate limit (RateLimit-Policy)";
    if limited { Vec::new() } else { vec![Found::medium(WHO, what)] }
}

pub(super) fn guesses(seen: &Outside) -> Vec<Found> {
    match seen.guesses {
        Guesses::Unlimited(tries) => {
            vec![Found::medium("X-API-Key", format!("{tries} made-up keys in a row were all looked at"))]
        }
        Guesses::Untried | Guesses::LimitedAfter(_) => Vec::new(),
    }
}

pub(super) fn anonymous_sockets(seen: &Outside) -> Vec<Found> {
    match seen.anonymous_socket {
        true => vec![Found::medium("GET /ws", "a WebSocket without a credential is let in")],
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::posture::{CHECKS, Severity, look_from_outside};

    fn answer(request: &str, status: u16) -> Seen {
        let media_type = if status < 400 { "application/json" } else { "application/problem+json" };
        let headers = [
            ("content-type", media_type),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", "default-src 'none'"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("ratelimit-policy", "\"me\";q=100;w=60"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Seen { request: request.to_owned(), status, headers, body: "{}".to_owned() }
    }

    /// A server that nothing is found of.
    fn safe() -> Outside {
        let answers = [("GET /health", 200), (WHO, 401), ("GET /docs", 401), ("GET /openapi.json", 401)];
        let more = [("GET /metrics", 401), ("GET /no-such-path", 404), ("TRACE /me", 405)];
        let answers = answers.into_iter().chain(more).map(|(request, status)| answer(request, status));
        Outside {
            answers: answers.collect(),
            plain: Some(answer(WHO, 403)),
            foreign: Some(answer("GET /health", 200)),
            guesses: Guesses::LimitedAfter(20),
            ..Outside::default()
        }
    }

    fn set(seen: &mut Outside, request: &str, change: impl Fn(&mut Seen)) {
        let found = seen.answers.iter_mut().find(|seen| seen.request == request);
        change(found.unwrap_or_else(|| panic!("nobody asked {request}")));
    }

    fn write(seen: &mut Seen, name: &str, value: Option<&str>) {
        seen.headers.retain(|(known, _)| known != name);
        seen.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    type Change = fn(&mut Outside);

    /// For each check what makes it find something, and how grave that is.
    #[rustfmt::skip]
    const CASES: &[(&str, Severity, Change)] = &[
        ("security-off", Severity::High, |seen| set(seen, WHO, |answer| answer.status = 200)),
        ("https-off", Severity::High, |seen| seen.plain = Some(answer(WHO, 401))),
        ("https-off", Severity::High, |seen| seen.plain = Some(answer(WHO, 200))),
        ("https-off", Severity::High, |seen| seen.plain = Some(answer(WHO, 429))),
        ("https-redirect", Severity::Low, |seen| seen.plain = Some(answer(WHO, 308))),
        ("tls-old", Severity::Medium, |seen| seen.old_tls.push("TLS 1.1")),
        ("hsts-missing", Severity::Medium, |seen| set(seen, WHO, |answer| write(answer, "strict-transport-security", None))),
        ("hsts-missing", Severity::Medium, |seen| {
            set(seen, WHO, |answer| write(answer, "strict-transport-security", Some("max-age=300; includeSubDomains")));
        }),
        ("headers-missing", Severity::Low, |seen| set(seen, "TRACE /me", |answer| write(answer, "content-security-policy", None))),
        ("headers-missing", Severity::Low, |seen| set(seen, WHO, |answer| write(answer, "x-frame-options", Some("SAMEORIGIN")))),
        ("version-told", Severity::Low, |seen| set(seen, WHO, |answer| write(answer, "server", Some("nginx/1.24.0\u{1b}")))),
        ("origins-any", Severity::Medium, |seen| {
            write(seen.foreign.as_mut().unwrap(), "access-control-allow-origin", Some("*"));
        }),
        ("origins-any", Severity::Medium, |seen| {
            write(seen.foreign.as_mut().unwrap(), "access-control-allow-origin", Some(FOREIGN_ORIGIN));
        }),
        ("docs-open", Severity::Low, |seen| set(seen, "GET /openapi.json", |answer| answer.status = 200)),
        ("metrics-exposed", Severity::Medium, |seen| set(seen, "GET /metrics", |answer| answer.status = 200)),
        ("errors-talkative", Severity::Medium, |seen| {
            set(seen, "GET /no-such-path", |answer| answer.body = "thread panicked at crates/api/src/x.rs:1".to_owned());
        }),
        ("errors-talkative", Severity::Low, |seen| {
            set(seen, "GET /no-such-path", |answer| write(answer, "content-type", Some("text/html")));
        }),
        ("trace-answered", Severity::Low, |seen| set(seen, "TRACE /me", |answer| answer.status = 200)),
        ("limits-off", Severity::Medium, |seen| set(seen, WHO, |answer| write(answer, "ratelimit-policy", None))),
        ("guessing-unlimited", Severity::Medium, |seen| seen.guesses = Guesses::Unlimited(60)),
        ("sockets-anonymous", Severity::Medium, |seen| seen.anonymous_socket = true),
    ];

    #[test]
    fn a_safe_server_has_no_finding() {
        let mut seen = safe();
        assert!(look_from_outside(&seen).findings.is_empty(), "{:#?}", look_from_outside(&seen).findings);
        // Nobody answers in the clear; nginx's names itself and no version; nobody guessed.
        seen.plain = None;
        set(&mut seen, WHO, |answer| write(answer, "server", Some("nginx")));
        seen.guesses = Guesses::Untried;
        let posture = look_from_outside(&seen);
        assert!(posture.findings.is_empty(), "{:#?}", posture.findings);
        assert_eq!(posture.checks, CHECKS.iter().filter(|check| check.is_of_outside()).count());
    }

    #[test]
    fn every_check_from_outside_finds_what_it_is_for_and_nothing_else() {
        for (number, (id, severity, change)) in CASES.iter().enumerate() {
            let mut seen = safe();
            change(&mut seen);
            let posture = look_from_outside(&seen);
            let found: Vec<_> =
                posture.findings.iter().map(|finding| (finding.check.id, finding.severity)).collect();
            assert_eq!(found, [(*id, *severity)], "{number}");
            assert!(
                posture.findings[0].severity <= posture.findings[0].check.severity,
                "{id} is graver than it says"
            );
            assert!(!posture.findings[0].what.contains('\u{1b}'));
        }
        let tested: BTreeSet<_> = CASES.iter().map(|(id, ..)| *id).collect();
        let known = CHECKS.iter().filter(|check| check.is_of_outside());
        assert_eq!(tested, known.map(|check| check.id).collect(), "a check without a case");
    }
}
