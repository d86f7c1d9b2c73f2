//! Signed checkpoints, what they show, and proofs from them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Exit, ServerBuilder, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// A key and its public half, as files.
pub(crate) struct Keys {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

pub(crate) async fn keygen(folder: &Path, name: &str) -> Keys {
    let private = folder.join(format!("{name}.pem"));
    let exit = Cli::new(PROGRAM).run(["audit", "keygen", "--out", private.to_str().unwrap()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let public = folder.join(format!("{name}.pub"));
    fs::write(&public, &exit.stdout).unwrap();
    Keys { private, public }
}

fn signed(server: ServerBuilder, keys: &Keys, targets: &Value) -> ServerBuilder {
    server
        .env("TASKIQ_FLOW_AUDIT_SIGNING_KEY", keys.private.to_str().unwrap())
        .env("TASKIQ_FLOW_AUDIT_CHECKPOINTS", targets.to_string())
        .env("TASKIQ_FLOW_AUDIT_CHECKPOINT_SECONDS", "1")
        .env("TASKIQ_FLOW_AUDIT_ORIGIN", "flow.example/audit")
}

async fn audit(arguments: &[&str]) -> Exit {
    Cli::new(PROGRAM).run(["audit"].iter().chain(arguments)).await
}

async fn verify(log: &Path, checkpoints: &Path, public: &Path) -> Exit {
    let [log, checkpoints, public] = [log, checkpoints, public].map(|path| path.to_str().unwrap());
    audit(&["verify", log, "--checkpoints", checkpoints, "--public-key", public, "--json"]).await
}

/// A log with checkpoints after 10, 20 and 30 reads and at the end.
async fn signed_log(folder: &Path) -> (PathBuf, PathBuf, Keys) {
    let keys = keygen(folder, "key").await;
    let checkpoints = folder.join("checkpoints.jsonl");
    let server = signed(server(), &keys, &json!([checkpoints])).start().await;
    let admin = admin(&server);
    for _ in 0..3 {
        for _ in 0..10 {
            admin.get("/pipelines").await.expect(200);
        }
        let records = records(&server.audit()).len() as u64;
        let covered = until(LIMIT, async || {
            let status = admin.get("/security/audit/verify").await.expect(200).json();
            (status["checkpoints"]["last"]["size"].as_u64() >= Some(records)).then_some(status)
        })
        .await;
        let status = covered.unwrap();
        assert_eq!((&status["valid"], &status["checkpoints"]["error"]), (&json!(true), &Value::Null));
        assert_eq!(status["checkpoints"]["origin"], "flow.example/audit");
        assert_eq!(status["checkpoints"]["targets"][0]["error"], Value::Null);
    }
    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let log = folder.join("audit.jsonl");
    fs::copy(directory.path().join("audit.jsonl"), &log).unwrap();
    (log, checkpoints, keys)
}

#[tokio::test]
async fn each_tampering_is_named_and_ends_with_exit_1() {
    let folder = tempfile::tempdir().unwrap();
    let (log, checkpoints, keys) = signed_log(folder.path()).await;
    let exit = verify(&log, &checkpoints, &keys.public).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert!(report["signed_checkpoints"]["checked"].as_u64() >= Some(4), "{report}");
    assert_eq!(report["signed_checkpoints"]["checked"], report["signed_checkpoints"]["trees_computed"]);

    let genuine = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = genuine.split_inclusive('\n').collect();
    let expect = async |what: &str, text: &str, seq: u64, word: &str| {
        fs::write(&log, text).unwrap();
        let exit = verify(&log, &checkpoints, &keys.public).await;
        assert_eq!(exit.code, Some(1), "{what}: {}", exit.output());
        let report: Value = serde_json::from_str(&exit.stdout).unwrap();
        assert_eq!((&report["sound"], &report["seq"]), (&json!(false), &json!(seq)), "{what}: {report}");
        assert!(report["fault"].as_str().unwrap().contains(word), "{what}: {report}");
    };
    let last = lines.len() as u64;
    let edited = lines[11].replace("\"success\"", "\"failure\"");
    expect("edit", &[&lines[..11], &[&edited], &lines[12..]].concat().concat(), 12, "edited").await;
    expect("removal", &[&lines[..11], &lines[12..]].concat().concat(), 12, "removed").await;
    let swapped = [&lines[..11], &[lines[12], lines[11]], &lines[13..]].concat().concat();
    expect("reorder", &swapped, 13, "reordered").await;
    expect("truncation", &lines[..20].concat(), last, "cut").await;
    expect("fork", &[&lines[..], &lines[14..17]].concat().concat(), 15, "reordered").await;
    // The chain has no secret: whoever writes the file can write all of it anew, and the plain check finds nothing.
    let forged = reseal(&lines, 14);
    fs::write(&log, &forged).unwrap();
    assert_eq!(audit(&["verify", log.to_str().unwrap()]).await.code, Some(0));
    let exit = verify(&log, &checkpoints, &keys.public).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert!(report["fault"].as_str().unwrap().contains("rewritten"), "{report}");
    // A key that nobody named.
    fs::write(&log, &genuine).unwrap();
    let other = keygen(folder.path(), "other").await;
    let exit = verify(&log, &checkpoints, &other.public).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
    assert!(
        exit.stderr.contains("checkpoints.jsonl:1:") && exit.stderr.contains("signature"),
        "{}",
        exit.stderr
    );
}

/// The log with one record changed, and every hash from there on computed anew.
fn reseal(lines: &[&str], from: usize) -> String {
    use sha2::{Digest, Sha256};
    let mut text = lines[..from].concat();
    let mut before =
        serde_json::from_str::<Value>(lines[from - 1]).unwrap()["hash"].as_str().unwrap().to_owned();
    for (index, line) in lines.iter().enumerate().skip(from) {
        let (body, _) = line.rsplit_once(",\"hash\":\"").unwrap();
        let (body, _) = body.rsplit_once(",\"prev_hash\":\"").unwrap();
        let body = if index == from { body.replace("\"success\"", "\"failure\"") } else { body.to_owned() };
        let body = format!("{body},\"prev_hash\":\"{before}\"");
        let hash: String =
            Sha256::digest(format!("{body}}}")).iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{body},\"hash\":\"{hash}\"}}\n"));
        before = hash;
    }
    text
}

#[tokio::test]
async fn a_record_is_proved_to_somebody_who_has_only_the_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (log, checkpoints, keys) = signed_log(folder.path()).await;
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let [log, checkpoints, public] = [&log, &checkpoints, &keys.public].map(|path| path.to_str().unwrap());
    let check = async |proof: &str| {
        audit(&["prove", "check", proof, "--checkpoints", checkpoints, "--public-key", public]).await
    };
    let exit = audit(&["prove", "inclusion", "--seq", "9", log]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let proof = file("inclusion.json", &exit.stdout);
    let held = check(&proof).await;
    assert_eq!(held.code, Some(0), "{}", held.output());
    assert!(held.stdout.contains("\"seq\":9,"), "{}", held.stdout);
    let changed = exit.stdout.replacen("\\\"success\\\"", "\\\"failure\\\"", 1);
    assert_ne!(changed, exit.stdout);
    assert_eq!(check(&file("changed.json", &changed)).await.code, Some(1));

    let first: Value =
        serde_json::from_str(fs::read_to_string(checkpoints).unwrap().lines().next().unwrap()).unwrap();
    let size = first["size"].to_string();
    let exit = audit(&["prove", "consistency", "--from", &size, log]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    assert_eq!(check(&file("consistency.json", &exit.stdout)).await.code, Some(0));
    // A tree that nobody signed proves nothing.
    let exit = audit(&["prove", "inclusion", "--seq", "3", "--size", "3", log]).await;
    let unsigned = check(&file("unsigned.json", &exit.stdout)).await;
    assert_eq!(unsigned.code, Some(1), "{}", unsigned.output());
    assert_eq!(audit(&["prove", "inclusion", "--seq", "9999", log]).await.code, Some(2));
    assert_eq!(check(&file("none.json", "{}")).await.code, Some(2));
}

/// A server that keeps what is posted to it; the first request is refused.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let posted: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&posted);
    tokio::spawn(async move {
        let mut refused = false;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk).await.unwrap();
                bytes.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                match text.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str::<Value>(body)) {
                    Some(Ok(body)) => break body,
                    _ => assert!(read > 0, "{text}"),
                }
            };
            let status = if refused { "204 No Content" } else { "503 Service Unavailable" };
            if refused {
                kept.lock().push(body);
            }
            refused = true;
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, posted)
}

#[tokio::test]
async fn a_key_that_is_there_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(folder.path(), "key").await;
    let private = fs::read_to_string(&keys.private).unwrap();
    let exit = audit(&["keygen", "--out", keys.private.to_str().unwrap()]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("openssl pkey"), "{}", exit.output());
    assert_eq!(fs::read_to_string(&keys.private).unwrap(), private);
}

#[tokio::test]
async fn checkpoints_are_posted_and_posted_again() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(folder.path(), "key").await;
    let (address, posted) = collector().await;
    let server = signed(server(), &keys, &json!([format!("http://{address}/checkpoints")])).start().await;
    admin(&server).get("/pipelines").await.expect(200);
    let came = until(LIMIT, async || (posted.lock().len() >= 2).then_some(())).await;
    assert!(came.is_some(), "{}", server.stderr());
    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let text: String = posted.lock().iter().map(|checkpoint| format!("{checkpoint}\n")).collect();
    let kept = folder.path().join("kept.jsonl");
    fs::write(&kept, &text).unwrap();
    let exit = verify(&directory.path().join("audit.jsonl"), &kept, &keys.public).await;
    assert_eq!(exit.code, Some(0), "{}\n{text}", exit.output());
    // The end too.
    let size = posted.lock().last().unwrap()["size"].clone();
    let lines = fs::read_to_string(directory.path().join("audit.jsonl")).unwrap().lines().count();
    assert_eq!(size, json!(lines));
}

#[tokio::test]
async fn a_new_key_follows_on_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (keygen(folder.path(), "old").await, keygen(folder.path(), "new").await);
    let (log, checkpoints) = (folder.path().join("audit.jsonl"), folder.path().join("checkpoints.jsonl"));
    let with = |keys: &Keys| {
        let targets = json!([checkpoints]);
        signed(server(), keys, &targets).env("TASKIQ_FLOW_AUDIT_LOG", log.to_str().unwrap())
    };
    with(&old).start().await.stop().await;
    // Nobody says that the new key may.
    let exit = with(&new).try_start().await.unwrap_err();
    assert!(exit.code != Some(0) && exit.stderr.contains("audit_previous_signing_key"), "{}", exit.output());
    let previous = old.private.to_str().unwrap();
    with(&new).env("TASKIQ_FLOW_AUDIT_PREVIOUS_SIGNING_KEY", previous).start().await.stop().await;
    let exit = verify(&log, &checkpoints, &old.public).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(report["signed_checkpoints"]["keys"].as_array().unwrap().len(), 2, "{report}");
    let exit = verify(&log, &checkpoints, &new.public).await;
    assert_eq!(exit.code, Some(1), "the new key alone vouches for nothing older: {}", exit.output());
}

#[tokio::test]
async fn a_key_file_is_the_owners_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(folder.path(), "key").await;
    assert_eq!(fs::metadata(&keys.private).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&keys.private).unwrap();
    let exit = audit(&["keygen", "--out", keys.private.to_str().unwrap()]).await;
    assert_eq!((exit.code, fs::read(&keys.private).unwrap()), (Some(2), before));
    // Another program reads both halves the same.
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let derived = openssl(&["pkey", "-in", keys.private.to_str().unwrap(), "-pubout"]);
    assert_eq!(derived, fs::read_to_string(&keys.public).unwrap());
}

#[tokio::test]
async fn a_rotated_log_is_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(folder.path(), "key").await;
    let checkpoints = folder.path().join("checkpoints.jsonl");
    let server = signed(server(), &keys, &json!([checkpoints])).start().await;
    let admin = admin(&server);
    let (log, old) = (server.audit_path(), folder.path().join("audit.jsonl.1"));
    for _ in 0..20 {
        admin.get("/pipelines").await.expect(200);
    }
    fs::rename(&log, &old).unwrap();
    let moved = until(LIMIT, async || {
        admin.get("/pipelines").await.expect(200);
        fs::metadata(&log).is_ok_and(|meta| meta.len() > 0).then_some(())
    });
    assert!(moved.await.is_some());
    // What the server checks is the new file, by itself.
    let page = admin.get("/security/audit?event=audit.gap").await.expect(200).json();
    assert_eq!(page["records"].as_array().unwrap().len(), 1, "{page}");
    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let new = directory.path().join("audit.jsonl");
    let [old, new, checkpoints, public] =
        [&old, &new, &checkpoints, &keys.public].map(|path| path.to_str().unwrap());
    let exit =
        audit(&["verify", old, new, "--checkpoints", checkpoints, "--public-key", public, "--json"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(report["signed_checkpoints"]["checked"], report["signed_checkpoints"]["trees_computed"]);
    let swapped = audit(&["verify", new, old]).await;
    assert_eq!(swapped.code, Some(1), "{}", swapped.output());
}
