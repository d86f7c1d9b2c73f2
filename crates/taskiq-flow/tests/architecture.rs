//! The rooms of ARCHITECTURE.md: a dependency that runs backwards, or a heavy library in the wrong room, fails here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each room and the rooms it may see. Tests may see more: only normal dependencies count.
const MAY_SEE: [(&str, &[&str]); 13] = [
    ("core", &[]),
    ("macros", &[]),
    ("outbound", &[]),
    ("store", &["core"]),
    ("broker", &["core"]),
    ("engine", &["core", "outbound", "store", "broker"]),
    ("security", &["outbound"]),
    ("api", &["core", "store", "broker", "engine", "security"]),
    ("taskiq-flow", &["core", "macros", "store", "broker", "engine", "security", "api"]),
    ("selftest", &[]),
    ("simulate", &["core", "store"]),
    ("cli", &["taskiq-flow", "selftest", "simulate"]),
    ("testkit", &[]),
];

/// Libraries that only these rooms may name.
const ONLY_IN: [(&str, &[&str]); 12] = [
    ("axum", &["api"]),
    ("tower-http", &["api"]),
    ("rusqlite", &["store"]),
    ("redis", &["security"]),
    ("jsonwebtoken", &["security"]),
    ("minijinja", &["core"]),
    ("serde-saphyr", &["core"]),
    ("clap", &["cli"]),
    ("rustls", &["api", "taskiq-flow"]),
    ("tokio-rustls", &["api"]),
    ("notify", &["taskiq-flow"]),
    ("x509-parser", &["security"]),
];

/// Libraries that a pure room does without.
const NOT_IN_CORE: [&str; 5] = ["tokio", "reqwest", "hyper", "tracing", "async-trait"];

fn rooms() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.map(|package| (package["name"].as_str().unwrap().to_owned(), normal(package))).collect()
}

fn package(room: &str) -> String {
    if room == "taskiq-flow" { room.to_owned() } else { format!("taskiq-flow-{room}") }
}

#[test]
fn no_room_sees_one_that_it_must_not() {
    let rooms = rooms();
    let known: BTreeSet<String> = MAY_SEE.iter().map(|(room, _)| package(room)).collect();
    let unknown: Vec<_> =
        rooms.keys().filter(|name| !known.contains(*name) && *name != "taskiq-flow-bench").collect();
    assert!(unknown.is_empty(), "rooms without a rule here and in ARCHITECTURE.md: {unknown:?}");
    for (room, may_see) in MAY_SEE {
        let allowed: BTreeSet<String> = may_see.iter().map(|room| package(room)).collect();
        let seen = rooms[&package(room)].iter().filter(|name| known.contains(*name));
        let wrong: Vec<_> = seen.filter(|name| !allowed.contains(*name)).collect();
        assert!(wrong.is_empty(), "`{room}` must not depend on {wrong:?}");
    }
}

#[test]
fn heavy_libraries_stay_in_their_rooms() {
    let rooms = rooms();
    for (library, allowed) in ONLY_IN {
        let allowed: BTreeSet<String> = allowed.iter().map(|room| package(room)).collect();
        let users = rooms.iter().filter(|(_, libraries)| libraries.contains(library)).map(|(name, _)| name);
        let wrong: Vec<_> =
            users.filter(|name| !allowed.contains(*name) && *name != "taskiq-flow-testkit").collect();
        assert!(wrong.is_empty(), "{wrong:?} must not depend on {library}");
    }
    let core = &rooms["taskiq-flow-core"];
    let impure: Vec<_> = NOT_IN_CORE.iter().filter(|library| core.contains(**library)).collect();
    assert!(impure.is_empty(), "the core is pure and does without {impure:?}");
}
