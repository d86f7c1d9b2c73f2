//! Testing Security: the three lines, with the real curl, with HTTPS required and without.

use std::process::Command;

use taskiq_flow_testkit::Server;

use crate::support::*;

/// Runs a line of the guide, with the server's port in place of 8000 and `further` arguments.
fn curl(server: &Server, line: &str, further: &[&str]) -> String {
    let line = line.replace("http://localhost:8000", &format!("http://localhost:{}", server.port()));
    // As a shell would split it: only the header is in quotes.
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    assert_eq!(words[0], "curl");
    let output =
        Command::new("curl").args(["--silent", "--max-time", "20"]).args(&words[1..]).args(further).output();
    let output = output.expect("curl is installed by scripts/install-test-deps.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn expect(line: &str, status: &str) {
    let server = guide().start().await;
    let answer = curl(&server, line, &["-H", "X-Forwarded-Proto: https"]);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "behind HTTPS: {answer}");
    // Without a proxy before it, a server that requires HTTPS answers none of these lines.
    assert!(curl(&server, line, &[]).starts_with("HTTP/1.1 403 Forbidden\r\n"));
    let server = guide_with(&[("require_https = true", "require_https = false")]).start().await;
    let answer = curl(&server, line, &[]);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "with require_https=false: {answer}");
}

/// Guide: "# No credentials → 401 Unauthorized curl -i http://localhost:8000/pipelines"
#[tokio::test]
async fn no_credentials_401_unauthorized() {
    expect("curl -i http://localhost:8000/pipelines", "401 Unauthorized").await;
}

/// Guide: "# Invalid key → 403 Forbidden curl -i -H "X-API-Key: invalid-key" http://localhost:8000/pipelines"
#[tokio::test]
async fn invalid_key_403_forbidden() {
    expect("curl -i -H \"X-API-Key: invalid-key\" http://localhost:8000/pipelines", "403 Forbidden").await;
}

/// Guide: "# Valid viewer key → 200 OK curl -i -H "X-API-Key: viewer-key" http://localhost:8000/pipelines"
#[tokio::test]
async fn valid_viewer_key_200_ok() {
    expect("curl -i -H \"X-API-Key: viewer-key\" http://localhost:8000/pipelines", "200 OK").await;
}
