//! What readers of both formats rely on.

use jiff::Timestamp;
use serde_json::Value;

use super::cef::escape;
use super::*;
use crate::audit::chain::{Checkpoint, seal};
use crate::audit::entry::AuditEntry;
use crate::audit::record::AuditPrincipal;
use crate::audit::safe_json::is_control;

const HOSTILE: &str = "a|b=c\\d\r\n{\"x\":1}\u{1b}[2J\u{202e}\u{85} é";

fn records() -> Vec<AuditRecord> {
    let full = |event: AuditEvent| {
        let outcome = if event == AuditEvent::PipelineRead { Outcome::Success } else { Outcome::Denied };
        let principal = AuditPrincipal {
            id: HOSTILE.into(),
            kind: "jwt".into(),
            issuer: Some(HOSTILE.into()),
            roles: vec!["a".into(), HOSTILE.into()],
        };
        AuditEntry::new(event, outcome)
            .principal(principal)
            .action(HOSTILE)
            .pipeline_id(HOSTILE)
            .run_id(HOSTILE)
            .ip([192, 0, 2, 1].into())
            .request(HOSTILE, "POST", HOSTILE)
            .status(403)
            .detail(HOSTILE)
    };
    let bare = |event: AuditEvent| AuditEntry::new(event, Outcome::Success);
    let all = AuditEvent::ALL.into_iter().flat_map(|event| [full(event), bare(event)]);
    let record = |entry: AuditEntry| {
        let line = seal(&entry, Timestamp::from_second(1_000).unwrap(), Checkpoint::GENESIS).unwrap();
        match read(&line.bytes) {
            Read::Sound(record, _) => *record,
            other => panic!("{other:?}"),
        }
    };
    all.map(record).collect()
}

/// The attributes that the schema (1.3.0) requires of every class, of these four, and of the objects in them.
#[test]
fn ocsf_has_what_the_schema_requires() {
    let any_of = |value: &Value, names: &[&str]| names.iter().any(|name| !value[name].is_null());
    for record in records() {
        let line = ExportFormat::Ocsf.line(&record);
        assert!(line.chars().all(|c| !is_control(c)), "{line}");
        let event: Value = serde_json::from_str(&line).unwrap();
        for name in
            ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid", "status_id"]
        {
            assert!(event[name].is_u64(), "{name} in {event}");
        }
        assert_eq!(event["metadata"]["version"], "1.3.0");
        assert!(event["metadata"]["product"]["vendor_name"].is_string());
        assert_eq!(event["time"], 1_000_000);
        let class = event["class_uid"].as_u64().unwrap();
        assert_eq!(event["category_uid"], class / 1000);
        assert_eq!(event["type_uid"], class * 100 + event["activity_id"].as_u64().unwrap());
        let most = match class {
            3002 => {
                assert!(any_of(&event["user"], &["name", "uid", "account"]));
                assert!(any_of(&event["service"], &["name", "uid"]));
                5
            }
            3004 => {
                assert!(any_of(&event["entity"], &["name", "uid"]));
                assert!(any_of(&event["actor"], &["user", "process"]));
                4
            }
            6002 => {
                assert!(event["app"]["vendor_name"].is_string());
                4
            }
            6003 => {
                assert!(any_of(&event["actor"]["user"], &["name", "uid"]));
                assert!(event["api"]["operation"].is_string());
                assert!(any_of(&event["src_endpoint"], &["ip", "name"]));
                4
            }
            other => panic!("{other}"),
        };
        let activity = event["activity_id"].as_u64().unwrap();
        assert!((1..=most).contains(&activity) || activity == 99, "{event}");
        assert_eq!(event["metadata"]["uid"], record.hash.as_str());
        assert!(!line.contains(":null"), "{line}");
    }
}

#[test]
fn cef_is_one_line_that_nothing_breaks_out_of() {
    for record in records() {
        let line = ExportFormat::Cef.line(&record);
        assert!(line.chars().all(|c| !is_control(c)), "{line}");
        // As a reader takes it apart: unescaped bars part the header, the rest is `name=value`.
        let mut header = vec![String::new()];
        let mut chars = line.chars();
        while header.len() < 8 {
            match chars.next().unwrap() {
                '\\' => header.last_mut().unwrap().push(chars.next().unwrap()),
                '|' => header.push(String::new()),
                c => header.last_mut().unwrap().push(c),
            }
        }
        assert_eq!((header[0].as_str(), header[4].as_str()), ("CEF:0", record.event.as_str()));
        assert!((0..=10).contains(&header[6].parse::<u8>().unwrap()));
        let rest = header.pop().unwrap() + chars.as_str();
        let mut names = Vec::new();
        let mut before = ' ';
        let bytes: Vec<char> = rest.chars().collect();
        for (at, c) in bytes.iter().enumerate() {
            if *c == '=' && before != '\\' {
                let start = bytes[..at].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
                names.push(bytes[start..at].iter().collect::<String>());
            }
            before = if before == '\\' && *c == '\\' { ' ' } else { *c };
        }
        let known = [
            "rt",
            "externalId",
            "outcome",
            "src",
            "suser",
            "sntdom",
            "spriv",
            "act",
            "requestMethod",
            "request",
            "msg",
            "cs1",
            "cs1Label",
            "cs2",
            "cs2Label",
            "cs3",
            "cs3Label",
            "cs4",
            "cs4Label",
            "cs5",
            "cs5Label",
            "cn1",
            "cn1Label",
        ];
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?} in {line}");
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "a value made a field of its own: {line}");
    }
}

#[test]
fn values_are_escaped_as_the_format_says() {
    let mut text = String::new();
    escape(&mut text, "a=b|c\\d\r\n\u{1b}é", '=');
    assert_eq!(text, "a\\=b|c\\\\d\\r\\n\\\\u001bé");
    let mut text = String::new();
    escape(&mut text, "a=b|c", '|');
    assert_eq!(text, "a=b\\|c");
    assert_eq!("cef".parse(), Ok(ExportFormat::Cef));
    assert!("leef".parse::<ExportFormat>().is_err());
}

#[test]
fn only_sound_records_are_exported() {
    let line = seal(
        &AuditEntry::new(AuditEvent::AuditStart, Outcome::Success),
        Timestamp::UNIX_EPOCH,
        Checkpoint::GENESIS,
    );
    let line = line.unwrap().bytes;
    let mut both = line.clone();
    both.extend_from_slice(b"garbage\n");
    both.extend_from_slice(&line);
    let exported = String::from_utf8(ExportFormat::Cef.convert(&both)).unwrap();
    assert_eq!(exported.lines().count(), 2);
    assert!(exported.ends_with('\n'));
}
