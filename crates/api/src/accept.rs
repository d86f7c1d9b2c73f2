//! Which of several media types a client likes best (RFC 9110 section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// The place of the offer the client likes best; of equals the first. A client that accepts none of them, or does not
/// say, gets the first.
pub(crate) fn preferred(headers: &HeaderMap, offers: &[&str]) -> usize {
    let mut best = (0, 0.0);
    for (place, offer) in offers.iter().enumerate() {
        let quality = quality(headers, offer).unwrap_or(0.0);
        if quality > best.1 {
            best = (place, quality);
        }
    }
    best.0
}

/// Whether the client names this media type itself and does not refuse it.
pub(crate) fn names(headers: &HeaderMap, media_type: &str) -> bool {
    ranges(headers).any(|(range, quality)| range.eq_ignore_ascii_case(media_type) && quality > 0.0)
}

/// The weight of the most specific range that matches.
fn quality(headers: &HeaderMap, offer: &str) -> Option<f32> {
    let kind = offer.split('/').next().unwrap_or("");
    let specific = |range: &str| match range {
        range if range.eq_ignore_ascii_case(offer) => Some(2),
        "*/*" => Some(0),
        range => {
            let of_kind = range.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(kind));
            of_kind.then_some(1)
        }
    };
    let matching = ranges(headers).filter_map(|(range, quality)| Some((specific(range)?, quality)));
    matching.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, quality)| quality)
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = (&str, f32)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.and_then(|text| text.parse().ok()).filter(|q: &f32| (0.0..=1.0).contains(q));
        Some((range, quality.unwrap_or(1.0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_liked_offer_wins_and_the_first_of_equals() {
        const OFFERS: [&str; 3] = ["application/json", "text/vnd.graphviz", "text/plain"];
        for (accept, chosen) in [
            ("", 0),
            ("*/*", 0),
            ("application/json", 0),
            ("text/plain", 2),
            ("text/*", 1),
            ("text/vnd.graphviz;q=0.5, text/plain", 2),
            ("application/json;q=0.1, text/*;q=0.9", 1),
            ("text/html,application/xhtml+xml,*/*;q=0.8", 0),
            ("application/json;q=0, */*", 1),
            ("image/png", 0),
            ("text/plain;q=2, text/plain;q=x", 2),
            (",;,", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(preferred(&headers, &OFFERS), chosen, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new(), &OFFERS), 0);
    }

    #[test]
    fn a_wildcard_names_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "*/*, text/html;q=0.5, text/event-stream;q=0".parse().unwrap());
        assert!(names(&headers, "text/html"));
        assert!(!names(&headers, "text/event-stream") && !names(&headers, "application/json"));
    }
}
