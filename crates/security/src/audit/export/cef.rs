//! CEF: version 0, one line each, as ArcSight's "Common Event Format" guide describes it.

use std::fmt::Write as _;

use super::{PRODUCT, VENDOR, VERSION, severity_of};
use crate::audit::record::AuditRecord;
use crate::audit::safe_json::is_control;

/// The record as one line, without its end.
pub(super) fn line(record: &AuditRecord) -> String {
    let severity = match severity_of(record).0 {
        1 => 1,
        2 => 4,
        3 => 6,
        _ => 8,
    };
    let mut line = format!("CEF:0|{VENDOR}|{PRODUCT}|{VERSION}|");
    let event = record.event.as_str();
    for field in [event, &format!("{event} {}", record.outcome.as_str())] {
        escape(&mut line, field, '|');
        line.push('|');
    }
    // Writing to a String cannot fail.
    _ = write!(line, "{severity}|rt={} externalId={}", record.time.as_millisecond(), record.seq);
    let ip = record.ip.map(|ip| ip.to_string());
    let status = record.status.map(|status| status.to_string());
    let principal = record.principal.as_ref();
    let roles = principal.map(|principal| principal.roles.join(","));
    let version6 = record.ip.is_some_and(|ip| ip.is_ipv6());
    let fields = [
        ("outcome", Some(record.outcome.as_str())),
        (if version6 { "c6a2" } else { "src" }, ip.as_deref()),
        ("c6a2Label", ip.as_deref().filter(|_| version6).map(|_| "Source IPv6 Address")),
        ("suser", principal.map(|principal| principal.id.as_str())),
        ("sntdom", principal.and_then(|principal| principal.issuer.as_deref())),
        ("spriv", roles.as_deref()),
        ("act", record.action.as_deref()),
        ("requestMethod", record.method.as_deref()),
        ("request", record.path.as_deref()),
        ("msg", record.detail.as_deref()),
        ("cs1", record.pipeline_id.as_deref()),
        ("cs1Label", record.pipeline_id.as_deref().map(|_| "pipelineId")),
        ("cs2", record.run_id.as_deref()),
        ("cs2Label", record.run_id.as_deref().map(|_| "runId")),
        ("cs3", record.request_id.as_deref()),
        ("cs3Label", record.request_id.as_deref().map(|_| "requestId")),
        ("cs4", principal.map(|principal| principal.kind.as_str())),
        ("cs4Label", principal.map(|_| "principalType")),
        ("cs5", Some(record.hash.as_str())),
        ("cs5Label", Some("hash")),
        ("cn1", status.as_deref()),
        ("cn1Label", status.as_deref().map(|_| "status")),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            _ = write!(line, " {name}=");
            escape(&mut line, value, '=');
        }
    }
    line
}

/// Backslash and `special` with a backslash, line ends by name, other control characters by number.
pub(super) fn escape(line: &mut String, text: &str, special: char) {
    for c in text.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            c if c == special => line.extend(['\\', c]),
            c if is_control(c) => _ = write!(line, "\\\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
}
