//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651).

use http::{HeaderName, HeaderValue};

use super::gcra::{Decision, whole_seconds};
use super::limit::Limit;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
/// Nearly every value is shorter, in bytes.
const ROOM: usize = 64;

/// Both headers of an answer: every quota of the limit as a policy (`q` requests in `w` seconds), and what is
/// left of the one that decided (`r`), with the seconds until there is more (`t`).
///
/// `t` is the time to a full bucket; once nothing is left, the time to the next request, so that it never
/// lies after `Retry-After`. A limit of several quotas names each by its window: `"dag-60s"`.
pub fn rate_limit_headers(policy_name: &str, limit: &Limit, d: &Decision) -> [(HeaderName, HeaderValue); 2] {
    let several = limit.quotas().len() > 1;
    let name = |out: &mut String, window: u64| match several {
        true => quote(out, &named(policy_name, limit, window)),
        false => quote(out, policy_name),
    };
    let mut policy = String::with_capacity(ROOM);
    for quota in limit.quotas() {
        if !policy.is_empty() {
            policy.push_str(", ");
        }
        let window = whole_seconds(quota.period());
        name(&mut policy, window);
        parameter(&mut policy, ";q=", quota.burst());
        parameter(&mut policy, ";w=", window);
    }
    let until = match d.remaining {
        0 => d.retry_after.unwrap_or(d.next_after),
        _ => d.reset_after,
    };
    let mut seconds = whole_seconds(until);
    if !d.allowed {
        seconds = seconds.max(1);
    }
    let mut state = String::with_capacity(ROOM);
    name(&mut state, whole_seconds(d.window));
    parameter(&mut state, ";r=", d.remaining);
    parameter(&mut state, ";t=", seconds);
    [(POLICY, value(policy)), (STATE, value(state))]
}

/// The name by which [`rate_limit_headers`] gives the quota that decided.
pub(crate) fn policy_name(name: &str, limit: &Limit, d: &Decision) -> String {
    named(name, limit, whole_seconds(d.window))
}

/// Both headers of a bound on what goes on at once, which is reached. When there will be room is not known: `t` is
/// left out.
pub(crate) fn concurrency_headers(policy_name: &str, most: usize) -> [(HeaderName, HeaderValue); 2] {
    let mut name = String::with_capacity(ROOM);
    quote(&mut name, policy_name);
    let policy = format!("{name};q={most};qu=\"concurrent-requests\"");
    [(POLICY, value(policy)), (STATE, value(format!("{name};r=0")))]
}

fn named(policy_name: &str, limit: &Limit, window: u64) -> String {
    match limit.quotas().len() {
        0 | 1 => policy_name.to_owned(),
        _ => format!("{policy_name}-{window}s"),
    }
}

/// A structured-field String: printable ASCII in quotes; anything else becomes an underscore.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        // As the names of endpoints are.
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('_'),
        }
    }
    out.push('"');
}

fn parameter(out: &mut String, key: &str, value: u64) {
    out.push_str(key);
    out.push_str(itoa::Buffer::new().format(value));
}

fn value(text: String) -> HeaderValue {
    // `quote` lets only printable ASCII through, which is always a header value; an empty one says nothing.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::super::gcra::gcra;
    use super::*;

    fn shown(name: &str, limit: &str, calls: u64) -> (String, String, Option<u64>) {
        let limit: Limit = limit.parse().unwrap();
        let quota = limit.quotas().next().unwrap();
        let (mut tat, mut d) = gcra(0, 0, quota);
        for _ in 1..calls {
            (tat, d) = gcra(0, tat, quota);
        }
        let [(p, policy), (s, state)] = rate_limit_headers(name, &limit, &d);
        assert_eq!((p.as_str(), s.as_str()), ("ratelimit-policy", "ratelimit"));
        let text = |v: HeaderValue| v.to_str().unwrap().to_owned();
        (text(policy), text(state), d.retry_after_seconds())
    }

    #[test]
    fn follows_the_draft() {
        let (policy, state, retry) = shown("list_pipelines", "60/minute", 1);
        assert_eq!(policy, "\"list_pipelines\";q=60;w=60");
        assert_eq!(state, "\"list_pipelines\";r=59;t=1");
        assert_eq!(retry, None);
    }

    #[test]
    fn an_empty_bucket_tells_when_the_next_request_may_come() {
        let (_, state, retry) = shown("execute_pipeline", "10/minute", 11);
        assert_eq!(state, "\"execute_pipeline\";r=0;t=6");
        assert_eq!(retry, Some(6));
        let (_, state, retry) = shown("x", "1000/second", 1001);
        assert_eq!(state, "\"x\";r=0;t=1");
        assert_eq!(retry, Some(1));
    }

    #[test]
    fn several_quotas_have_names_of_their_own() {
        let (policy, state, _) = shown("dag", "2/second;100/minute", 1);
        assert_eq!(policy, "\"dag-1s\";q=2;w=1, \"dag-60s\";q=100;w=60");
        assert_eq!(state, "\"dag-1s\";r=1;t=1");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        let (policy, _, _) = shown("a\"b\\c\r\nd\u{e9}", "1/minute", 1);
        assert_eq!(policy, "\"a\\\"b\\\\c__d_\";q=1;w=60");
    }
}
