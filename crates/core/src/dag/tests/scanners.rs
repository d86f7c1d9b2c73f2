//! Readers of drawings, strict enough to notice what does not belong there.

use std::collections::BTreeSet;

/// What an ASCII drawing of single boxes joins, found by following its lines; none if it has no boxes.
pub(super) fn connections(text: &str) -> Option<BTreeSet<(String, String)>> {
    let grid: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let at = |x: usize, y: usize| grid.get(y).and_then(|row| row.get(x)).copied().unwrap_or(' ');
    let mut boxes: Vec<(usize, usize, usize, usize, String)> = Vec::new();
    for (y, row) in grid.iter().enumerate() {
        for x in (0..row.len()).filter(|x| row[*x] == '┌') {
            let right = (x..row.len()).find(|end| row[*end] == '┐')?;
            let bottom = (y..grid.len()).find(|bottom| at(x, *bottom) == '└')?;
            let name: String = (x + 1..right).map(|x| at(x, y + 1)).collect();
            boxes.push((x, right, y, bottom, name.trim().to_owned()));
        }
    }
    let mut found = BTreeSet::new();
    for (left, right, _, bottom, name) in &boxes {
        let exit = (*left..*right).find(|x| at(*x, *bottom) == '┬');
        let mut heads: Vec<(usize, usize, i32, i32)> = exit.map(|x| (x, *bottom, 0, 1)).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some((x, y, dx, dy)) = heads.pop() {
            let (x, y) =
                (x.checked_add_signed(dx as isize).unwrap(), y.checked_add_signed(dy as isize).unwrap());
            if !seen.insert((x, y, dx, dy))
                || boxes.iter().any(|(l, r, _, b, _)| y == *b && (*l..=*r).contains(&x))
            {
                continue;
            }
            let glyph = at(x, y);
            if glyph == '▼' {
                let target = boxes.iter().find(|(l, r, top, ..)| *top == y + 1 && (*l..=*r).contains(&x));
                found.insert((name.clone(), target.expect("an arrow points at a box").4.clone()));
                continue;
            }
            let ways = ways(glyph).unwrap_or_else(|| panic!("a line of {name} ends at {x}, {y} in\n{text}"));
            if ways.contains(&(-dx, -dy)) {
                // Lines that join from above come from other sources.
                let onward = ways.iter().filter(|way| **way != (-dx, -dy) && way.1 >= 0);
                heads.extend(onward.map(|(dx, dy)| (x, y, *dx, *dy)));
            } else {
                assert_eq!((glyph, dy), ('│', 0), "a line of {name} breaks at {x}, {y} in\n{text}");
                heads.push((x, y, dx, dy));
            }
        }
    }
    (!boxes.is_empty()).then_some(found)
}

fn ways(glyph: char) -> Option<&'static [(i32, i32)]> {
    const UP: (i32, i32) = (0, -1);
    const DOWN: (i32, i32) = (0, 1);
    const LEFT: (i32, i32) = (-1, 0);
    const RIGHT: (i32, i32) = (1, 0);
    Some(match glyph {
        '│' => &[UP, DOWN],
        '─' => &[LEFT, RIGHT],
        '╭' => &[DOWN, RIGHT],
        '╮' => &[DOWN, LEFT],
        '╰' => &[UP, RIGHT],
        '╯' => &[UP, LEFT],
        '├' => &[UP, DOWN, RIGHT],
        '┤' => &[UP, DOWN, LEFT],
        '┬' => &[LEFT, DOWN, RIGHT],
        '┴' => &[LEFT, UP, RIGHT],
        '┼' => &[UP, DOWN, LEFT, RIGHT],
        _ => return None,
    })
}

/// Checks that an SVG is well-formed and has no element or attribute but those of a still picture; gives back the
/// texts of its `title` and `text` elements, unescaped.
pub(super) fn svg_texts(svg: &str) -> Vec<String> {
    const ELEMENTS: [&str; 9] = ["svg", "title", "style", "defs", "marker", "path", "g", "rect", "text"];
    const ATTRIBUTES: [&str; 24] = [
        "xmlns",
        "class",
        "viewBox",
        "width",
        "height",
        "role",
        "font-family",
        "id",
        "refX",
        "refY",
        "markerWidth",
        "markerHeight",
        "orient",
        "d",
        "fill",
        "stroke",
        "stroke-width",
        "marker-end",
        "transform",
        "x",
        "y",
        "rx",
        "font-size",
        "font-weight",
    ];
    let mut open: Vec<&str> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        if matches!(open.last(), Some(&"title" | &"text")) {
            texts.push(unescape(text));
        } else if open.last() != Some(&"style") {
            assert!(text.trim().is_empty(), "text outside an element for text: {text:?}");
        }
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(ELEMENTS.contains(&name), "element {name:?}");
        while !attributes.trim().is_empty() {
            let (attribute, after) =
                attributes.trim_start().split_once("=\"").expect("an attribute has a value");
            let (value, after) = after.split_once('"').expect("a value ends");
            assert!(ATTRIBUTES.contains(&attribute), "attribute {attribute:?}");
            assert!(!value.contains("url(") || value == "url(#tf-arrow)");
            attributes = after;
        }
        if !closed {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty());
    assert!(!svg.contains("@import") && svg.matches("url(").count() == svg.matches("url(#tf-arrow)").count());
    texts
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let (entity, after) = after.split_once(';').expect("an entity ends");
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            other => panic!("entity {other:?}"),
        });
        rest = after;
    }
    plain + rest
}

/// The quoted texts of a DOT file, as Graphviz reads labels; everything outside them must be of the language.
pub(super) fn dot_texts(dot: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut chars = dot.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            assert!(c.is_ascii_alphanumeric() || " \n{}[]=,;->".contains(c), "{c:?} outside of quotes");
            continue;
        }
        let mut text = String::new();
        loop {
            match chars.next().expect("a quoted text ends") {
                '"' => break,
                '\\' => text.push(chars.next().expect("an escape is whole")),
                c => text.push(c),
            }
        }
        texts.push(text.replace("&amp;", "&"));
    }
    texts
}

/// The labels of a Mermaid flowchart; every line must be one of those that a flowchart without links consists of.
pub(super) fn mermaid_labels(flowchart: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for line in flowchart.lines().skip(1) {
        let words = line.trim_start();
        if let Some(class) = words.strip_prefix("classDef ") {
            assert!(class.chars().all(|c| c.is_ascii_alphanumeric() || " _#,:".contains(c)), "{line}");
            continue;
        }
        let (before, label) = words.split_once('"').map_or((words, ""), |(before, after)| (before, after));
        let outside = label.split_once('"').map_or(String::new(), |(label, after)| {
            labels.push(entities(label));
            after.to_owned()
        });
        for part in [before, &outside] {
            assert!(part.chars().all(|c| c.is_ascii_alphanumeric() || "[]|-> :_".contains(c)), "{line}");
        }
    }
    labels
}

fn entities(label: &str) -> String {
    let mut plain = String::new();
    let mut rest = label;
    while let Some((before, after)) = rest.split_once('#') {
        assert!(!before.contains(';'), "a bare semicolon in {label:?}");
        plain.push_str(before);
        let (code, after) = after.split_once(';').expect("an entity ends");
        plain.push(char::from_u32(code.parse().expect("an entity is a number")).unwrap());
        rest = after;
    }
    assert!(rest.chars().all(|c| c.is_alphanumeric() || " _-.,".contains(c)), "{label:?}");
    plain + rest
}
