//! The table of docs/guide/audit.md names tests: they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of all functions that are tests in the files below a folder.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if matches!(line.trim(), "#[test]" | "#[tokio::test]") {
                    let names = lines
                        .by_ref()
                        .find_map(|line| line.split_once("fn ").map(|(_, rest)| rest.to_owned()));
                    let name = names.unwrap_or_default();
                    found.insert(name.split('(').next().unwrap_or_default().to_owned());
                }
            }
        }
    }
}

#[test]
fn every_test_that_the_guide_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for folder in ["crates/security", "tests/audit"] {
        tests_in(&root.join(folder), &mut tests);
    }
    let guide = fs::read_to_string(root.join("docs/guide/audit.md")).unwrap();
    let table = guide.split("| asked | test |").nth(1).unwrap();
    let named: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
