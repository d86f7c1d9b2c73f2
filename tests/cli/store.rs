//! `store`: copies of the store, and what is done to its file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Server, until};

use crate::PROGRAM;
use crate::runs::{User, server};

const LIMIT: Duration = Duration::from_secs(30);
/// A store whose schema is of version 2.
const OLD: &[u8] = include_bytes!("../../crates/store/src/sqlite/tests/old/schema-2.db");

/// A command line that reads the file at `path` as its store.
fn of_file(arguments: &[&str], path: &Path) -> Vec<String> {
    let store = format!("sqlite:{}", path.display());
    arguments.iter().copied().chain(["--store", &store]).map(str::to_owned).collect()
}

async fn start(server: &Server) -> Option<String> {
    let client = server.client().key("root");
    let reply = client.try_post("/pipelines/sum/execute", &json!({ "parameters": { "a": 1 } })).await?;
    Some(reply.expect(202).json()["run_id"].as_str()?.to_owned())
}

#[tokio::test]
async fn a_copy_of_a_busy_server_has_every_run_that_was_acknowledged_before() {
    let builder = server();
    let copies = builder.dir().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let server = Arc::new(builder.env("TASKIQ_FLOW_BACKUP_DIR", copies.display().to_string()).start().await);
    let (acknowledged, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (server, acknowledged, stop) =
                (Arc::clone(&server), Arc::clone(&acknowledged), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let run = start(&server).await;
                    acknowledged.lock().extend(run);
                }
            })
        })
        .collect();
    let count = async |wanted: usize| {
        until(LIMIT, async || (acknowledged.lock().len() >= wanted).then_some(())).await.expect("the load");
    };
    count(50).await;
    let root = User::new(&server, "root");
    let mut before = Vec::new();
    for (number, name) in ["first.db", "second.db"].into_iter().enumerate() {
        count((number + 1) * 60).await;
        before.push((name, acknowledged.lock().clone()));
        match name {
            "first.db" => {
                let client = server.client().key("root");
                let made = client.post("/store/backup", &json!({ "name": name })).await.expect(201).json();
                assert_eq!(made["name"], name);
                assert_eq!(made["bytes"], std::fs::metadata(copies.join(name)).unwrap().len());
            }
            _ => assert_eq!(root.json(&["store", "backup", name]).await["name"], name),
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let cli = Cli::new(PROGRAM);
    for (name, acknowledged) in before {
        let copy = copies.join(name);
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let check = cli.run(of_file(&["store", "check", "--json"], &copy)).await;
        assert_eq!(check.code, Some(0), "{}", check.output());
        let checked: Value = serde_json::from_str(&check.stdout).unwrap();
        assert!(checked["sound"] == true && checked["rows"]["runs"].as_u64() >= Some(60), "{checked}");
        // A server goes on with it.
        let other = crate::runs::server().env("TASKIQ_FLOW_STORE_URL", format!("sqlite:{}", copy.display()));
        let other = other.start().await;
        let client = other.client().key("root");
        for run in &acknowledged {
            client.get(&format!("/runs/{run}")).await.expect(200);
        }
        let last = acknowledged.last().unwrap();
        let ended = until(LIMIT, async || {
            let view = client.get(&format!("/runs/{last}")).await.json();
            (view["status"] == "completed").then_some(())
        });
        ended.await.expect("what was under way goes on");
    }
    let left =
        std::fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let partial: Vec<_> = left.filter(|name| name.contains("partial")).collect();
    assert!(partial.is_empty(), "{partial:?}");
}

#[tokio::test]
async fn who_may_not_gets_no_copy_and_a_name_leads_nowhere_else() {
    let builder = server();
    let copies = builder.dir().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let server = builder.env("TASKIQ_FLOW_BACKUP_DIR", copies.display().to_string()).start().await;
    let root = server.client().key("root");
    for (client, status) in
        [(server.client(), 401), (server.client().key("reader"), 403), (server.client().key("starter"), 403)]
    {
        assert_eq!(client.post("/store/backup", &json!({ "name": "a.db" })).await.status, status);
    }
    for name in ["../a.db", "/tmp/a.db", "a/b.db", "..", ".", "", ".a", "a\u{0}.db", "%2e%2e%2fa"] {
        let refused = root.post("/store/backup", &json!({ "name": name })).await.expect(422).json();
        assert_eq!(refused["errors"][0]["field"], "name", "{refused}");
    }
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 0);
    root.post("/store/backup", &json!({ "name": "a.db" })).await.expect(201);
    let taken = root.post("/store/backup", &json!({ "name": "a.db" })).await.expect(409).json();
    assert!(!taken["detail"].as_str().unwrap().contains('/'), "no path of the server: {taken}");
    root.post("/store/backup", &json!({ "name": "a.db", "replace": true })).await.expect(201);
    std::fs::write(copies.join("notes"), "mine").unwrap();
    root.post("/store/backup", &json!({ "name": "notes", "replace": true })).await.expect(409);
    assert_eq!(std::fs::read_to_string(copies.join("notes")).unwrap(), "mine");
    let made_up = root.post("/store/backup", &json!({})).await.expect(201).json();
    assert!(copies.join(made_up["name"].as_str().unwrap()).exists(), "{made_up}");
    std::fs::remove_dir_all(&copies).unwrap();
    root.post("/store/backup", &json!({ "name": "b.db" })).await.expect(503);
    // Records are written a moment later.
    let noted = until(LIMIT, async || {
        let records = server.audit();
        let records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let noted: Vec<_> = records
            .filter(|record| record["event"] == "store.backup")
            .map(|record| format!("{} {}", record["detail"], record["outcome"]))
            .collect();
        (noted.last().map(String::as_str) == Some(r#""b.db" "failure""#)).then_some(noted)
    });
    let noted = noted.await.expect("the last one is recorded");
    assert_eq!(noted[0], r#""a.db" "success""#, "{noted:?}");
    assert_eq!(noted[noted.len() - 2], r#""b.db" "success""#, "before it is made: {noted:?}");
    let without = crate::runs::server().start().await;
    without.client().key("root").post("/store/backup", &json!({})).await.expect(409);
}

#[tokio::test]
async fn the_file_of_a_server_that_is_stopped_is_copied_and_checked() {
    let server = server().start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(start(&server).await);
    }
    let path = server.dir().join("state.db");
    let cli = Cli::new(PROGRAM);
    for command in [&["store", "backup", "copy.db"][..], &["store", "check"]] {
        let busy = cli.run(of_file(command, &path)).await;
        assert_eq!(busy.code, Some(2), "{}", busy.output());
        assert!(busy.stderr.contains("another process") && busy.stderr.contains("--url"), "{}", busy.stderr);
    }
    let (_, directory) = server.stop_and_keep().await;
    let path = directory.path().join("state.db");
    let copied = cli.run(of_file(&["store", "backup", "copy.db"], &path)).await;
    assert_eq!(copied.code, Some(0), "{}", copied.output());
    let again = cli.run(of_file(&["store", "backup", "copy.db"], &path)).await;
    assert!(again.code == Some(2) && again.stderr.contains("--replace"), "{}", again.output());
    let replaced = cli.run(of_file(&["store", "backup", "copy.db", "--replace"], &path)).await;
    assert_eq!(replaced.code, Some(0), "{}", replaced.output());
    let check = cli.run(of_file(&["store", "check"], &cli.dir().join("copy.db"))).await;
    assert_eq!(check.code, Some(0), "{}", check.output());
    assert!(check.stdout.lines().any(|line| line.split_whitespace().eq(["runs", "5"])), "{}", check.stdout);
    let mut bytes = std::fs::read(cli.dir().join("copy.db")).unwrap();
    bytes[4096 * 2..4096 * 12].fill(0x5a);
    std::fs::write(cli.dir().join("copy.db"), bytes).unwrap();
    let damaged = cli.run(of_file(&["store", "check", "--json"], &cli.dir().join("copy.db"))).await;
    assert_eq!(damaged.code, Some(1), "{}", damaged.output());
    let told: Value = serde_json::from_str(&damaged.stdout).unwrap();
    assert!(told["sound"] == false && !told["problems"].as_array().unwrap().is_empty(), "{told}");
    for (arguments, word) in [
        (vec!["store", "check", "--store", "sqlite:nothing.db"], "there is no such file"),
        (vec!["store", "check", "--store", "memory:"], "memory:"),
        (vec!["store", "check", "--store", "nonsense"], "--store"),
        (vec!["store", "backup", "x.db", "--store", "sqlite:a.db", "--url", "http://127.0.0.1:1"], "--url"),
    ] {
        let exit = cli.run(&arguments).await;
        assert!(exit.code == Some(2) && exit.stderr.contains(word), "{arguments:?}: {}", exit.output());
    }
}

/// The files of the process may not grow beyond 32 KiB, which is what a full disk does.
#[tokio::test]
async fn a_schema_is_not_changed_where_the_disk_has_no_room_for_a_copy() {
    let shell = Cli::new("sh").env("TASKIQ_FLOW_STORE_URL", "sqlite:t.db").limit(LIMIT);
    std::fs::write(shell.dir().join("t.db"), OLD).unwrap();
    let script = format!("ulimit -f 64; trap '' XFSZ; exec '{PROGRAM}' serve --port 0");
    let exit = shell.run(["-c", &script]).await;
    assert!(exit.code != Some(0) && exit.stderr.contains("from version 2 to"), "{}", exit.output());
    let kept: Vec<_> = std::fs::read_dir(shell.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("bak") || name.contains("partial"))
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
    let cli = Cli::new(PROGRAM);
    let check = cli.run(of_file(&["store", "check", "--json"], &shell.dir().join("t.db"))).await;
    let checked: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!((&checked["schema"], &checked["sound"]), (&json!(2), &json!(true)), "{checked}");
}

#[tokio::test]
async fn old_runs_are_removed_and_the_file_becomes_smaller() {
    let yaml = "id: print\ntasks:\n  - { name: a, command: [sh, \"-c\", \"head -c 60000 /dev/zero | tr '\\\\0' x >&2; echo 1\"], output: x }\n";
    let server = server().pipeline(yaml).start().await;
    let client = server.client().key("root");
    for _ in 0..200 {
        client.post("/pipelines/print/execute", &json!({ "wait": true })).await.expect(200);
    }
    let (_, directory) = server.stop_and_keep().await;
    let path = directory.path().join("state.db");
    let length = || std::fs::metadata(&path).unwrap().len();
    let cli = Cli::new(PROGRAM);
    let json_of = async |arguments: &[&str]| {
        let exit = cli.run(of_file(&[arguments, &["--json"]].concat(), &path)).await;
        assert_eq!(exit.code, Some(0), "{}", exit.output());
        serde_json::from_str::<Value>(&exit.stdout).unwrap()
    };
    let full = length();
    let dry = json_of(&["store", "prune", "--keep", "50", "--dry-run"]).await;
    assert_eq!(dry, json!({ "runs": 150, "dry_run": true }));
    assert_eq!(json_of(&["store", "check"]).await["rows"]["runs"], 200);
    assert_eq!(json_of(&["store", "prune", "--older-than", "1d"]).await["runs"], 0);
    assert_eq!(json_of(&["store", "prune", "--older-than", "1d", "--keep", "50"]).await["runs"], 150);
    assert_eq!(json_of(&["store", "check"]).await["rows"]["runs"], 50);
    assert!(length() < full, "{full} to {}", length());
    let compacted = json_of(&["store", "compact"]).await;
    assert_eq!(compacted["after"], length());
    assert!(length() < full / 2, "{full} to {}", length());
    assert_eq!(json_of(&["store", "check"]).await["sound"], true);
    for arguments in [&["store", "prune"][..], &["store", "prune", "--older-than", "often"]] {
        assert_eq!(cli.run(of_file(arguments, &path)).await.code, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_server_keeps_so_many_runs() {
    for store in ["memory:", "sqlite:runs.db"] {
        let server =
            server().env("TASKIQ_FLOW_STORE_URL", store).env("TASKIQ_FLOW_RETENTION_RUNS", "5").start().await;
        let client = server.client().key("root");
        let run = json!({ "parameters": { "a": 1 }, "wait": true });
        for _ in 0..100 {
            client.post("/pipelines/sum/execute", &run).await.expect(200);
        }
        let left = until(LIMIT, async || {
            let runs = client.get("/runs?limit=500").await.json()["runs"].as_array().map_or(0, Vec::len);
            (runs <= 5).then_some(runs)
        });
        assert_eq!(left.await, Some(5), "{store}");
    }
}
