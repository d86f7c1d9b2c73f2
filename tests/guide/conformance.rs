//! Which test proves which claim of the guide: docs/guide/guide-conformance.md, made from the tests themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A claim of the guide, and the section it stands in.
struct Claim {
    section: String,
    text: String,
}

/// Where a test is: its file below tests/, and its name.
type Place = (String, String);

const TABLE: &str = "docs/guide/guide-conformance.md";

const HEAD: &str = "# The security guide, claim by claim\n\n\
    Made from the tests: `cargo test -p taskiq-flow-cli --test guide` fails when a claim has no test or this page is out of\n\
    date, and with `UPDATE_DOCS=1` writes it anew. Each test runs the built program and asks it over HTTP or WebSocket, as a\n\
    client would.\n";

#[test]
fn each_claim_has_a_test_and_the_table_is_up_to_date() {
    let claims = claims();
    let proofs = proofs(&root().join("tests"));
    let unproven: Vec<&str> =
        claims.iter().map(|claim| claim.text.as_str()).filter(|text| !proofs.contains_key(*text)).collect();
    assert!(unproven.is_empty(), "claims without a test: {unproven:#?}");
    let invented: Vec<_> =
        proofs.iter().filter(|(text, _)| !claims.iter().any(|claim| claim.text == **text)).collect();
    assert!(invented.is_empty(), "not in claims.txt: {invented:#?}");

    let table = table(&claims, &proofs);
    let path = root().join(TABLE);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table, "{TABLE} is out of date; run this test with UPDATE_DOCS=1");
}

#[test]
fn quotes_are_read_as_they_are_written() {
    let source = "/// Guide: \"one \"two\" three\"\n/// Guide: \"four\"\n#[tokio::test]\nasync fn named() {}\n\
        /// Guide: \"five\n/// six\"\n#[test]\nfn other() {}\n/// No quote.\nfn third() {}\n";
    let mut found = BTreeMap::new();
    quotes(source, "a/b.rs", &mut found);
    let place = |name: &str| vec![("a/b.rs".to_owned(), name.to_owned())];
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [
            ("five six".to_owned(), place("other")),
            ("four".to_owned(), place("named")),
            ("one \"two\" three".to_owned(), place("named")),
        ]
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn claims() -> Vec<Claim> {
    let mut section = String::new();
    let mut claims: Vec<Claim> = Vec::new();
    let text = include_str!("claims.txt");
    // The lines before the first section say what the file is.
    for line in text.lines().skip_while(|line| !line.starts_with("## ")).filter(|line| !line.is_empty()) {
        match line.strip_prefix("## ") {
            Some(name) => name.clone_into(&mut section),
            None => {
                assert!(!claims.iter().any(|claim| claim.text == line), "twice in claims.txt: {line}");
                claims.push(Claim { section: section.clone(), text: line.to_owned() });
            }
        }
    }
    assert!(claims.len() > 80, "claims.txt has lost claims");
    claims
}

/// The claims that tests quote, and those tests.
fn proofs(tests: &Path) -> BTreeMap<String, Vec<Place>> {
    let mut found = BTreeMap::new();
    for directory in sorted(tests).into_iter().filter(|path| path.is_dir()) {
        for file in
            sorted(&directory).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"))
        {
            // This file quotes for other reasons.
            if file.ends_with("conformance.rs") {
                continue;
            }
            let name = file.strip_prefix(tests).unwrap().display().to_string();
            quotes(&std::fs::read_to_string(&file).unwrap(), &name, &mut found);
        }
    }
    found
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Finds `/// Guide: "…"` above functions. A quote ends where the comment or the next quote begins.
fn quotes(source: &str, file: &str, found: &mut BTreeMap<String, Vec<Place>>) {
    let mut open: Vec<String> = Vec::new();
    for line in source.lines() {
        if let Some(comment) = line.trim_start().strip_prefix("/// ") {
            match (comment.strip_prefix("Guide: \""), open.last_mut()) {
                (Some(start), _) => open.push(start.to_owned()),
                (None, Some(last)) => {
                    last.push(' ');
                    last.push_str(comment);
                }
                (None, None) => {}
            }
        } else if let Some(name) = line.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) {
            for quote in open.drain(..) {
                let text = quote.strip_suffix('"').unwrap_or_else(|| panic!("{file}: no end: {quote}"));
                found.entry(text.to_owned()).or_default().push((file.to_owned(), name.to_owned()));
            }
        }
    }
}

fn table(claims: &[Claim], proofs: &BTreeMap<String, Vec<Place>>) -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for claim in claims {
        if claim.section != section {
            section = &claim.section;
            write!(out, "\n## {section}\n\n| The guide says | Tests |\n|---|---|\n").unwrap();
        }
        let tests: Vec<String> =
            proofs[&claim.text].iter().map(|(file, name)| format!("`{file}` {name}")).collect();
        writeln!(out, "| {} | {} |", cell(&claim.text), tests.join("<br>")).unwrap();
    }
    out
}

/// Text that Markdown shows as it is, in a cell.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '#' | '[' | ']' | '~' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
