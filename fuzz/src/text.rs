//! Short texts of configuration and headers.

use std::time::Duration;

use taskiq_flow_core::time::{format_duration, parse_duration};
use taskiq_flow_security::api_key::{KeyDigest, KeyRing, check_shape};
use taskiq_flow_security::rate_limit::Limit;
use taskiq_flow_security::settings::AllowedOrigins;
use taskiq_flow_security::whitelist::Whitelist;

/// Limits and durations: what is read is written the same.
pub fn limit(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Limit>() {
        Ok(limit) => {
            assert_eq!(limit.to_string().parse::<Limit>().as_ref(), Ok(&limit), "{text:?}");
            for quota in limit.quotas() {
                assert!(quota.burst() > 0 && quota.period() > Duration::ZERO, "{text:?}");
            }
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{text:?}"),
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)).ok(), Some(duration), "{text:?}");
    }
}

/// Keys as configuration has them: a digest is one, and nobody's key.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert!(KeyRing::default().find(text, [127, 0, 0, 1].into(), now).is_err());
    if let Ok(id) = check_shape(text) {
        assert!(text[4..].starts_with(id) && !id.contains('_'), "{text:?}");
    }
    if let Ok(digest) = KeyDigest::from_config(text) {
        assert_eq!(KeyDigest::from_config(&digest.to_config()), Ok(digest), "{text:?}");
        assert_eq!(format!("{digest:?}"), format!("{:?}", KeyDigest::of("another")), "a key is shown");
    }
}

/// Patterns of pipeline ids, a line each; the last line is the id.
pub fn whitelist(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let Some(id) = lines.pop() else { return };
    let Ok(whitelist) = Whitelist::parse(&lines) else { return };
    // Slow and plainly right.
    let expected = lines.is_empty()
        || lines.iter().any(|pattern| {
            let (pattern, id): (Vec<char>, Vec<char>) = (pattern.chars().collect(), id.chars().collect());
            matches(&pattern, &id)
        })
        || whitelist.is_unrestricted();
    assert_eq!(whitelist.allows(id), expected, "{lines:?} {id:?}");
    assert_eq!(Whitelist::parse(&whitelist.to_list()).as_ref(), Ok(&whitelist));
}

fn matches(pattern: &[char], text: &[char]) -> bool {
    // reached[n]: the pattern so far matches the first n characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; text.len() + 1];
        for n in 0..=text.len() {
            next[n] = match part {
                '*' => reached[n] || (n > 0 && next[n - 1]),
                c => n > 0 && reached[n - 1] && text[n - 1] == *c,
            };
        }
        reached = next;
    }
    reached[text.len()]
}

/// `listed LF origin LF host`.
pub fn origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (listed, origin) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let host = lines.next();
    let own = AllowedOrigins::default();
    for secure in [false, true] {
        if own.allows(origin, host, secure) {
            let scheme = if secure { "https://" } else { "http://" };
            assert!(origin.to_ascii_lowercase().starts_with(scheme), "{origin:?} is not of {host:?}");
        }
    }
    assert!(!own.allows("null", host, true) && !own.lists(origin));
    let Ok(list) = AllowedOrigins::parse(&[listed]) else { return };
    assert!(list.lists(listed), "{listed:?}");
    let written: Vec<String> = list.iter().collect();
    assert_eq!(AllowedOrigins::parse(&written).as_ref(), Ok(&list), "{listed:?}");
}
