//! docs/guide/security-requirements.md: every test it names is there, and every row has one or says why not. Other pages:
//! every file they name is there.

use std::path::{Path, PathBuf};

const PAGE: &str = "docs/guide/security-requirements.md";

#[test]
fn every_requirement_has_a_test_that_is_there_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
    let mut rows = 0;
    let mut wrong = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(shown_by) = cells.last().filter(|cell| **cell != "shown by") else { continue };
        rows += 1;
        let named: Vec<&str> =
            shown_by.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        let reason = ["Exception: ", "Open: "].iter().any(|word| {
            shown_by.strip_prefix(word).is_some_and(|reason| reason.split_whitespace().count() >= 2)
        });
        if named.is_empty() != reason {
            wrong.push(format!("neither tests nor a reason, or both: {line}"));
        }
        for name in named {
            let (file, test) = name.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !is_test(&source, test) {
                wrong.push(format!("{name} is no test"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows > 180, "{rows} rows: the page has lost some");
}

#[test]
fn every_source_file_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = ["docs/threat-model.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(PathBuf::from)
        .to_vec();
    pages.extend(files(&root.join("docs/adr")));
    let folders = ["crates", "tests", "fuzz/src", "fuzz/fuzz_targets", "bench"];
    let sources: Vec<PathBuf> = folders.iter().flat_map(|folder| files(&root.join(folder))).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages {
        let text = std::fs::read_to_string(root.join(&page)).unwrap();
        // A path may begin anywhere below the root: `audit/flood.rs` is one too.
        for named in text.split('`').skip(1).step_by(2).filter(|named| named.ends_with(".rs")) {
            seen += 1;
            if !sources.iter().any(|source| source.ends_with(named)) {
                wrong.push(format!("{}: there is no {named}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 40, "{seen} names: the pages have lost some");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether the source has a function of this name with `test` among its attributes.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    lines.iter().enumerate().any(|(number, line)| {
        line.contains(&function)
            && lines[..number]
                .iter()
                .rev()
                .take(4)
                .any(|above| above.starts_with("#[") && above.contains("test"))
    })
}

#[test]
fn a_function_without_the_attribute_is_no_test() {
    let source = "#[test]\nfn one() {}\n\n#[tokio::test]\nasync fn two() {}\n\n\n\n\nfn three() {}\n";
    assert_eq!(["one", "two", "three", "four"].map(|name| is_test(source, name)), [true, true, false, false]);
}
