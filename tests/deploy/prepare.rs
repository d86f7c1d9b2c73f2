//! prepare.sh: what it makes is what the service and nginx take.

use std::path::Path;
use std::process::{Command, Output};

use taskiq_flow_testkit::Server;

use crate::support::{PROGRAM, deploy};

fn prepare(directory: &Path) -> Output {
    let script = directory.join("prepare.sh");
    std::fs::copy(deploy().join("prepare.sh"), &script).unwrap();
    Command::new("sh").arg(script).arg("flow.example.org").output().unwrap()
}

fn file(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn the_key_that_it_prints_opens_the_service_and_is_kept_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let output = prepare(directory.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(key.starts_with("tqf_") && key.len() == 68, "{key}");
    let keys = directory.path().join("secrets/api_keys.json");
    assert!(!file(directory.path(), "secrets/api_keys.json").contains(&key));
    let server = Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_API_KEYS", format!("file:{}", keys.display()))
        .start()
        .await;
    assert_eq!(server.client().key(&key).get("/security/config").await.status, 200);
    assert_eq!(server.client().key("tqf_").get("/security/config").await.status, 403);

    let environment = file(directory.path(), ".env");
    let password = environment.lines().find_map(|line| line.strip_prefix("REDIS_PASSWORD=")).unwrap();
    assert!(password.len() == 64 && password.chars().all(|c| c.is_ascii_alphanumeric()), "{password}");
    for (name, begin) in
        [("tls/fullchain.pem", "-----BEGIN CERTIFICATE"), ("tls/privkey.pem", "-----BEGIN PRIVATE KEY")]
    {
        assert!(file(directory.path(), name).starts_with(begin), "{name}");
    }
    let subject = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(directory.path().join("tls/fullchain.pem"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&subject.stdout).contains("DNS:flow.example.org"));
}

#[test]
fn it_leaves_alone_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    assert!(prepare(directory.path()).status.success());
    let names = [".env", "secrets/api_keys.json", "tls/fullchain.pem", "tls/privkey.pem"];
    let before = names.map(|name| file(directory.path(), name));
    let again = prepare(directory.path());
    assert!(again.status.success());
    assert_eq!(String::from_utf8_lossy(&again.stdout), "", "no second key");
    assert_eq!(names.map(|name| file(directory.path(), name)), before);
}
