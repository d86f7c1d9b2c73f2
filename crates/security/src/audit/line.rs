//! A record as a line of the log, written field by field: a server writes two for each request that it answers, and the
//! general way through `serde` takes many times as long. What comes out is what [`to_safe_json`] makes of the same record.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::record::{PrincipalView, RecordView};
use super::safe_json::to_safe_json;
use crate::networks::push_ip;

/// Nearly every line is shorter, in bytes, its hash included.
const ROOM: usize = 768;

/// Writes lines; keeps the second that was written last, since most records happen in the same one as those before.
#[derive(Debug, Default)]
pub(crate) struct LineWriter {
    second: Option<i64>,
    /// That second as records write it, up to the decimals.
    date: String,
}

impl LineWriter {
    /// The record as JSON on one line, without a line end.
    ///
    /// # Errors
    /// A text that JSON cannot hold; UTF-8 always can be.
    pub(crate) fn write(&mut self, record: &RecordView<'_>) -> serde_json::Result<Vec<u8>> {
        // Every field is destructured: one that is added must be written.
        let RecordView {
            logger,
            seq,
            time,
            event,
            outcome,
            principal,
            action,
            pipeline_id,
            run_id,
            ip,
            request_id,
            method,
            path,
            status,
            detail,
            prev_hash,
        } = record;
        let mut out = String::with_capacity(ROOM);
        out.push_str("{\"logger\":\"");
        out.push_str(logger);
        out.push_str("\",\"seq\":");
        out.push_str(itoa::Buffer::new().format(*seq));
        out.push_str(",\"time\":\"");
        self.time(&mut out, *time);
        out.push_str("\",\"event\":\"");
        out.push_str(event.as_str());
        out.push_str("\",\"outcome\":\"");
        out.push_str(outcome.as_str());
        out.push_str("\",\"principal\":");
        match principal {
            Some(principal) => write_principal(&mut out, principal)?,
            None => out.push_str("null"),
        }
        optional(&mut out, ",\"action\":", action.as_deref())?;
        optional(&mut out, ",\"pipeline_id\":", pipeline_id.as_deref())?;
        optional(&mut out, ",\"run_id\":", run_id.as_deref())?;
        match ip {
            Some(ip) => {
                out.push_str(",\"ip\":\"");
                push_ip(&mut out, *ip);
                out.push('"');
            }
            None => out.push_str(",\"ip\":null"),
        }
        optional(&mut out, ",\"request_id\":", request_id.as_deref())?;
        optional(&mut out, ",\"method\":", method.as_deref())?;
        optional(&mut out, ",\"path\":", path.as_deref())?;
        out.push_str(",\"status\":");
        match status {
            Some(status) => out.push_str(itoa::Buffer::new().format(*status)),
            None => out.push_str("null"),
        }
        optional(&mut out, ",\"detail\":", detail.as_deref())?;
        out.push_str(",\"prev_hash\":\"");
        out.push_str(prev_hash);
        out.push_str("\"}");
        Ok(out.into_bytes())
    }

    fn time(&mut self, out: &mut String, time: Timestamp) {
        let (second, micros) = (time.as_second(), time.subsec_microsecond());
        if second < 0 || micros < 0 {
            // Before 1970 both count backwards. Writing to a String cannot fail.
            _ = write!(out, "{time:.6}");
            return;
        }
        if self.second != Some(second) {
            self.date.clear();
            _ = write!(self.date, "{time:.0}");
            self.date.truncate(self.date.trim_end_matches('Z').len());
            self.second = Some(second);
        }
        out.push_str(&self.date);
        out.push('.');
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(micros);
        out.push_str(&"000000"[digits.len()..]);
        out.push_str(digits);
        out.push('Z');
    }
}

fn write_principal(out: &mut String, principal: &PrincipalView<'_>) -> serde_json::Result<()> {
    let PrincipalView { id, kind, issuer, roles } = principal;
    out.push_str("{\"id\":");
    text(out, id)?;
    out.push_str(",\"type\":");
    text(out, kind)?;
    if let Some(issuer) = issuer {
        out.push_str(",\"issuer\":");
        text(out, issuer)?;
    }
    out.push_str(",\"roles\":[");
    for (at, role) in roles.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        text(out, role)?;
    }
    out.push_str("]}");
    Ok(())
}

fn optional(out: &mut String, key: &str, value: Option<&str>) -> serde_json::Result<()> {
    out.push_str(key);
    match value {
        Some(value) => text(out, value),
        None => {
            out.push_str("null");
            Ok(())
        }
    }
}

fn text(out: &mut String, text: &str) -> serde_json::Result<()> {
    // Without a way out of the loop it looks at many bytes at once.
    let plain = text
        .bytes()
        .fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'));
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&to_safe_json(text)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::event::{AuditEvent, Outcome};
    use super::*;

    fn maybe(text: &str) -> Option<Cow<'_, str>> {
        (!text.len().is_multiple_of(5)).then_some(Cow::Borrowed(text))
    }

    proptest! {
        #[test]
        fn it_writes_what_serde_would(
            texts in proptest::collection::vec(".*", 9),
            roles in proptest::collection::vec(".{0,4}", 0..3),
            seq: u64,
            times in proptest::collection::vec((-70_000_000_000_000_000..250_000_000_000_000_000_i64, 0..3_i64), 1..4),
            ip: Option<IpAddr>,
            status: Option<u16>,
            event in proptest::sample::select(AuditEvent::ALL.to_vec()),
            outcome in proptest::sample::select(vec![Outcome::Success, Outcome::Denied, Outcome::Throttled]),
        ) {
            let mut writer = LineWriter::default();
            // The same second again and again, and others between.
            for time in times.iter().flat_map(|(time, again)| (0..=*again).map(move |n| *time + n)) {
                let principal = (roles.len() < 2).then(|| PrincipalView {
                    id: texts[0].as_str().into(),
                    kind: texts[1].as_str().into(),
                    issuer: maybe(&texts[2]),
                    roles: roles.iter().map(|role| role.as_str().into()).collect(),
                });
                let record = RecordView {
                    logger: super::super::LOGGER,
                    seq,
                    time: Timestamp::from_microsecond(time).unwrap(),
                    event,
                    outcome,
                    principal,
                    action: maybe(&texts[3]),
                    pipeline_id: maybe(&texts[4]),
                    run_id: maybe(&texts[5]),
                    ip,
                    request_id: maybe(&texts[6]),
                    method: maybe("GET"),
                    path: maybe(&texts[7]),
                    status,
                    detail: maybe(&texts[8]),
                    prev_hash: "00ff",
                };
                let line = String::from_utf8(writer.write(&record).unwrap()).unwrap();
                prop_assert_eq!(line, to_safe_json(&record).unwrap());
            }
        }
    }
}
