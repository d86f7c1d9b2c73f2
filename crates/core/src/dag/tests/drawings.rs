use std::str::FromStr;

use super::scanners::{connections, dot_texts, mermaid_labels, svg_texts};
use super::*;

const HOSTILE: [&str; 14] = [
    "x\"]; click n0 \"javascript:alert(1)\"",
    "</svg><script>alert(1)</script>",
    "' onload='alert(1)",
    "a\\\"b",
    "ends in \\",
    "<b>bold</b> &amp; &#x41; &lt;",
    "two\nlines\tand\ra tab",
    "\u{202e}gnp.exe\u{2066}",
    "nul\0 esc\u{1b}[31m bell\u{7}",
    "party 🎉 日本語 e\u{301}",
    "%%{init: {\"securityLevel\": \"loose\"}}%%",
    "#quot; #35; ﬂ°°60¶ß Straße",
    "`md` **bold** 1. one - two style:x#;",
    "<<TABLE>> \\N \\G",
];

fn hostile() -> (Dag, Vec<String>) {
    let mut names: Vec<String> = HOSTILE.map(str::to_owned).into();
    names.push("very long ".repeat(400));
    names.push(format!("z{}", "\u{301}".repeat(5_000)));
    let nodes = names.iter().map(|name| DagNode { kind: name.clone(), ..DagNode::new(name, "") }).collect();
    let edges = (1..names.len() as u32)
        .map(|node| edge(node / 2, node, &names[node as usize]))
        .filter(|e| e.source != e.target);
    (Dag::new(nodes, edges.collect()).unwrap(), names)
}

/// What a drawing shows of a name: written out here once more, so that the test does not believe the code.
fn visible(name: &str) -> String {
    let invisible = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || c == '\u{2066}';
    let seen = |c| match c {
        '\n' | '\t' | '\r' => ' ',
        c if invisible(c) => '\u{fffd}',
        c => c,
    };
    name.chars().map(seen).collect()
}

#[test]
fn the_diamond_is_drawn_as_in_the_golden_files() {
    let golden = [
        (DagFormat::Json, include_str!("golden/diamond.json")),
        (DagFormat::Cytoscape, include_str!("golden/diamond.cytoscape.json")),
        (DagFormat::Dot, include_str!("golden/diamond.dot")),
        (DagFormat::Mermaid, include_str!("golden/diamond.mmd")),
        (DagFormat::Ascii, include_str!("golden/diamond.txt")),
        (DagFormat::Svg, include_str!("golden/diamond.svg")),
    ];
    let states = [Some("completed"), Some("running"), Some("failed"), None];
    for (format, expected) in golden {
        let drawn = diamond().render(format, &states).into_text();
        assert_eq!(drawn, expected, "{format} is now:\n{drawn}");
    }
}

#[test]
fn formats_have_names_and_media_types() {
    for format in DagFormat::ALL {
        assert_eq!(DagFormat::from_str(&format.to_string()), Ok(format));
        assert!(UnknownFormat.to_string().contains(format.as_str()));
        assert!(!format.media_type().contains(';'));
    }
    for unknown in ["", "SVG", "graphviz", "svg "] {
        assert_eq!(DagFormat::from_str(unknown), Err(UnknownFormat));
    }
    assert_eq!(DagFormat::Svg.media_type(), "image/svg+xml");
}

fn json(rendered: Rendered) -> serde_json::Value {
    let Rendered::Json(json) = rendered else { panic!("not JSON") };
    serde_json::from_str(&json).unwrap()
}

#[test]
fn json_keeps_every_name_as_it_is() {
    let (dag, names) = hostile();
    let json = json(dag.render(DagFormat::Json, &[Some("a\"b")]));
    let ids: Vec<&str> =
        json["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    assert_eq!(ids, names);
    assert_eq!(
        (&json["nodes"][0]["state"], &json["nodes"][1]["state"]),
        (&"a\"b".into(), &serde_json::Value::Null)
    );
    assert_eq!(json["edges"][0]["data"], names[1]);
    let level: usize =
        json["levels"].as_array().unwrap().iter().map(|level| level.as_array().unwrap().len()).sum();
    assert_eq!(level, names.len());
}

#[test]
fn cytoscape_ids_are_unique_even_if_a_task_has_the_name_of_an_edge() {
    let dag = dag(&["a", "b", "0: a -> b", "0: a -> b'"], &[(0, 1, "x"), (0, 1, "y")]);
    let json = json(dag.render(DagFormat::Cytoscape, &[]));
    let elements = ["nodes", "edges"].map(|key| json["elements"][key].as_array().unwrap().clone()).concat();
    let ids: std::collections::HashSet<_> =
        elements.iter().map(|element| element["data"]["id"].to_string()).collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn svg_escapes_every_name_and_runs_nothing() {
    let (dag, names) = hostile();
    let texts = svg_texts(&dag.render(DagFormat::Svg, &[Some("\"><script>"), Some("running")]).into_text());
    for name in &names {
        assert!(
            texts.iter().any(|text| text.starts_with(&visible(name))),
            "the whole of {name:?} is in no title"
        );
    }
    assert!(texts.iter().any(|text| text.contains(" · \"><script>")));
    assert!(texts.iter().any(|text| text.ends_with('…')));
}

#[test]
fn dot_escapes_every_name() {
    let (dag, names) = hostile();
    let texts = dot_texts(&dag.render(DagFormat::Dot, &[Some("\" URL=\"x")]).into_text());
    for name in &names {
        assert!(texts.contains(&visible(name)), "{name:?} is no label in {texts:?}");
    }
}

#[test]
fn dot_ids_differ_wherever_names_do() {
    let dag = dag(&["a\n", "a\\n", "a\n\u{202e}", "a\\u{a}", "a "], &[]);
    let text = dag.render(DagFormat::Dot, &[]).into_text();
    let ids = text.lines().filter_map(|line| line.trim().split_once(" [label=")).map(|(id, _)| id);
    assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 5, "{text}");
}

#[test]
fn mermaid_escapes_every_name_and_has_no_click() {
    let (dag, names) = hostile();
    let text = dag
        .render(DagFormat::Mermaid, &[Some("x\nclick n0 \"javascript:alert(1)\""), Some("cached")])
        .into_text();
    let labels = mermaid_labels(&text);
    for name in &names {
        assert!(labels.contains(&visible(name)), "{name:?} is no label in {labels:?}");
    }
    assert!(text.contains(":::cached\n") && text.contains("classDef cached "));
    assert!(!text.lines().any(|line| line.trim_start().starts_with("click")));
}

#[test]
fn ascii_shows_no_control_character_and_stays_in_80_columns() {
    use unicode_width::UnicodeWidthStr;
    let (hostile, _) = hostile();
    let crowd = numbered(60, (20..60).flat_map(|node| [(node * 7 % 20, node), (node * 3 % 20, node)]));
    for dag in [hostile, fan(30), fan(3_000), crowd, numbered(40, [])] {
        let states: Vec<_> = (0..10).map(|_| Some("a\u{1b}[2J very long state")).collect();
        for states in [&[][..], &states] {
            let text = dag.render(DagFormat::Ascii, states).into_text();
            assert_eq!(visible(&text.replace('\n', "")), text.replace('\n', ""));
            assert!(text.lines().all(|line| line.width() <= 80 && line == line.trim_end()), "{text}");
        }
    }
}

#[test]
fn wide_levels_share_a_box_and_tangles_become_a_list() {
    let text = fan(30).render(DagFormat::Ascii, &[]).into_text();
    assert!(text.contains("│ 30 tasks:") && text.contains(" t30"), "{text}");
    assert_eq!(text.matches('▼').count(), 2);
    let tangle = numbered(40, (20..40).flat_map(|node| [0, 1, 2].map(|k| ((node * (k + 3) + k) % 20, node))));
    let text = tangle.render(DagFormat::Ascii, &[Some("running")]).into_text();
    assert!(text.starts_with("level 0 · 20 tasks\n├─ t0 · running\n"), "{text}");
    assert_eq!(text.matches('←').count(), 20);
}

#[test]
fn lines_that_cross_are_not_joined() {
    let dag = dag(
        &["a", "b", "c", "d", "e", "f"],
        &[(0, 2, ""), (0, 3, ""), (1, 3, ""), (1, 4, ""), (2, 5, ""), (0, 5, "")],
    );
    let drawn = connections(&dag.render(DagFormat::Ascii, &[]).into_text()).unwrap();
    let expected = [("a", "c"), ("a", "d"), ("a", "f"), ("b", "d"), ("b", "e"), ("c", "f")];
    assert_eq!(drawn, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn large_graphs_are_drawn_in_time_and_space_that_grow_with_them() {
    // One source for each of 3,000 levels: two million waypoints if every line had its own.
    let count = 3_000;
    let chain = (1..count).map(|node| (node - 1, node));
    let shortcuts = (2..count).map(|node| (0, node)).chain((0..count - 2).map(|node| (node, count - 1)));
    let dag = numbered(count, chain.chain(shortcuts));
    for format in DagFormat::ALL {
        let text = dag.render(format, &[]).into_text();
        assert!(text.len() < 4_000_000, "{format}: {} bytes", text.len());
    }
}
