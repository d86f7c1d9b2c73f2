//! `deny.toml` holds without cargo-deny too: licences, banned crates, sources and wildcard versions of all that is
//! built here. Advisories need their database: `make deny`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A package that is built.
struct Built {
    name: String,
    version: String,
    licence: String,
}

/// What is built here, tests included, with every feature. The tree is exact, where `cargo metadata` also names
/// optional packages that nothing turns on.
fn built() -> Vec<Built> {
    let tree = cargo(&["tree", "--workspace", "--all-features", "--prefix", "none", "--format", "{p}|{l}"]);
    let lines = tree.lines().filter(|line| !line.is_empty());
    let packages: BTreeSet<&str> = lines.map(|line| line.trim_end_matches(" (*)")).collect();
    let packages: Vec<Built> = packages
        .into_iter()
        .map(|line| {
            let (package, licence) = line.split_once('|').unwrap();
            let mut words = package.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            Built { name: word(), version: word(), licence: licence.to_owned() }
        })
        .collect();
    assert!(packages.len() > 200, "{} packages", packages.len());
    packages
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--offline", "--locked", "--manifest-path", &format!("{ROOT}/Cargo.toml")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rules() -> toml::Table {
    std::fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap().parse().unwrap()
}

#[test]
fn every_licence_is_on_the_list() {
    let rules = rules();
    let allowed: Vec<&str> =
        rules["licenses"]["allow"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(is_allowed("MIT OR GPL-3.0-only", &allowed) && is_allowed("MIT/Apache-2.0", &allowed));
    for bad in
        ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "Apache-2.0 WITH Classpath-exception-2.0", "", "custom"]
    {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
    let bad = built().into_iter().filter(|package| !is_allowed(&package.licence, &allowed));
    let bad: Vec<_> = bad.map(|one| format!("{} {}: {}", one.name, one.version, one.licence)).collect();
    assert!(bad.is_empty(), "not on the list of deny.toml: {bad:#?}");
}

fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let Ok(expression) = Expression::parse_mode(expression, ParseMode::LAX) else { return false };
    expression.evaluate(|one| allowed.contains(&one.to_string().as_str()))
}

#[test]
fn nothing_banned_is_built() {
    let (rules, built) = (rules(), built());
    let bans = rules["bans"]["deny"].as_array().unwrap();
    assert!(bans.iter().any(|ban| ban["crate"].as_str() == Some("ring")));
    for ban in bans {
        let (banned, reason) = (ban["crate"].as_str().unwrap(), ban["reason"].as_str().unwrap());
        assert!(!built.iter().any(|package| package.name == banned), "{banned}: {reason}");
    }
}

#[test]
fn everything_comes_from_the_registry_in_a_version_that_is_named() {
    // The lock file names every package of every platform.
    let lock: toml::Table = std::fs::read_to_string(format!("{ROOT}/Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 200);
    for package in packages {
        let source = package.get("source").and_then(|source| source.as_str());
        assert!(source.is_none() || source == Some(CRATES_IO), "{package}");
    }
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let wild = dependency["req"] == "*" && dependency["path"].is_null();
            assert!(!wild, "{}: {} in any version", package["name"], dependency["name"]);
        }
    }
}
