//! Certificates of clients.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taskiq_flow_testkit::{Authority, Client, Incoming, Pair, Server, ServerBuilder, Socket, jwt, until};

use crate::support::{answers_with, secured};

/// What a revocation may take.
const SOON: Duration = Duration::from_secs(2);

fn entries() -> String {
    json!({
        "CN=robot": {"role": "robot", "pipelines": ["hello"], "permissions": ["read"], "id": "robot-1"},
        "uri:spiffe://example.com/admin": {"role": "admin", "permissions": ["admin"]},
    })
    .to_string()
}

fn mutual(directory: &std::path::Path, authority: &Authority, probe: Option<&Pair>) -> (ServerBuilder, Pair) {
    let (builder, pair) = secured(directory);
    let builder = builder.client_ca(authority.certificate(), probe);
    (builder.env("TASKIQ_FLOW_CLIENT_CERTIFICATES", entries()), pair)
}

fn client(server: &Server, pair: &Pair, identity: &Pair) -> Client {
    Client::mutual_tls(
        format!("https://localhost:{}", server.port()),
        server.address(),
        &pair.pem(),
        identity,
    )
}

#[tokio::test]
async fn a_certificate_is_required_and_is_a_credential() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new(), Authority::new());
    let robot = authority.issue("robot", "/CN=robot", "");
    let (builder, pair) = mutual(directory.path(), &authority, Some(&robot));
    let server = builder.start().await;

    let as_robot = client(&server, &pair, &robot);
    let me = as_robot.get("/me").await.expect(200).json();
    assert_eq!(
        (&me["id"], &me["type"], &me["roles"]),
        (&json!("robot-1"), &json!("certificate"), &json!(["robot"]))
    );
    assert_eq!(as_robot.get("/pipelines/hello").await.status, 200);
    assert_eq!(as_robot.get("/pipelines/other").await.status, 403);
    assert_eq!(as_robot.post("/pipelines/hello/execute", &json!({})).await.status, 403);
    let admin = authority.issue("admin", "/CN=whoever", "URI:spiffe://example.com/admin");
    let admin = client(&server, &pair, &admin);
    assert_eq!(admin.get("/me").await.expect(200).json()["id"], "uri:spiffe://example.com/admin");
    assert_eq!(admin.get("/security/config").await.status, 200);
    // By its fingerprint nobody is named here; one that nobody names is no credential, and not an error.
    let stranger = client(&server, &pair, &authority.issue("stranger", "/CN=stranger", ""));
    let refused = stranger.get("/pipelines").await.expect(401);
    assert!(!refused.header("WWW-Authenticate").is_empty());
    // What is said of it is what happens to it.
    let ops = stranger.clone().key("admin-key");
    for (permission, pipeline, allowed) in
        [("read", "hello", true), ("read", "other", false), ("execute", "hello", false)]
    {
        let question = json!({"certificate": "robot-1", "permission": permission, "pipeline_id": pipeline});
        let why = ops.post("/security/explain", &question).await.expect(200).json();
        assert_eq!(
            (&why["allowed"], &why["principal"]["type"]),
            (&json!(allowed), &json!("certificate")),
            "{why}"
        );
    }
    // A key beside it decides alone.
    assert_eq!(stranger.clone().key("admin-key").get("/me").await.expect(200).json()["id"], "ops");
    assert_eq!(as_robot.clone().key("wrong").get("/pipelines").await.status, 403);

    // Without one, and with one of another authority, there is no connection.
    assert!(server.tls_client_trusting(&pair.pem()).try_get("/health").await.is_none());
    let forged = client(&server, &pair, &foreign.issue("robot", "/CN=robot", ""));
    assert!(forged.try_get("/health").await.is_none());
    // In the clear on the same port nobody gets further than probes.
    assert_eq!(server.plain_client().key("admin-key").get("/pipelines").await.status, 400);

    let by_certificate = server.audit();
    let by_certificate = by_certificate.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut by_certificate = by_certificate.filter(|record| record["principal"]["type"] == "certificate");
    assert_eq!(by_certificate.next().unwrap()["principal"]["id"], "robot-1");
}

#[tokio::test]
async fn a_certificate_may_be_optional_and_opens_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (builder, pair) = mutual(directory.path(), &authority, None);
    let server = builder.env("TASKIQ_FLOW_TLS_CLIENT_AUTH", "optional").start().await;
    // Who has none needs another credential.
    assert_eq!(server.tls_client().get("/pipelines").await.status, 401);
    assert_eq!(server.tls_client().key("admin-key").get("/pipelines").await.status, 200);
    let robot = authority.issue("robot", "/CN=robot", "");
    assert_eq!(client(&server, &pair, &robot).get("/pipelines").await.status, 200);
    // But a forged one is worse than none.
    let foreign = Authority::new();
    let forged = foreign.issue("robot", "/CN=robot", "");
    assert!(client(&server, &pair, &forged).try_get("/health").await.is_none());

    let url = format!("wss://localhost:{}/ws/hello", server.port());
    let open =
        async || Socket::connect_mutual_tls(&url, server.address(), &pair.pem(), &robot, &[]).await.unwrap();
    let mut socket = open().await;
    assert_eq!(socket.recv().await["type"], "connected");
    assert_eq!(socket.expect("subscribed").await["pipeline_id"], "hello");
    // A foreign page has the browser show its certificate, too.
    let foreign = [("Origin", "https://evil.example")];
    let refused =
        Socket::connect_mutual_tls(&url, server.address(), &pair.pem(), &robot, &foreign).await.unwrap_err();
    assert_eq!(refused.status, 403);
    let posted = client(&server, &pair, &robot).header("Origin", "https://evil.example");
    assert_eq!(posted.get("/pipelines").await.status, 403);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_nothing_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (builder, pair) = mutual(directory.path(), &authority, None);
    let secret = "a secret of at least thirty-two bytes";
    let server = builder
        .env("TASKIQ_FLOW_TLS_CLIENT_AUTH", "optional")
        .env("TASKIQ_FLOW_JWT_SECRET", secret)
        .start()
        .await;
    // Named by no entry: what it opens, its token alone does.
    let laptop = authority.issue("laptop", "/CN=laptop", "");
    let der = pem_to_der(&laptop.pem());
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
    let exp = jwt::from_now(Duration::from_secs(600));
    let claims = json!({"sub": "ada", "roles": ["admin"], "exp": exp, "cnf": {"x5t#S256": thumbprint}});
    let token = jwt::hs256(secret, &claims);
    let with = client(&server, &pair, &laptop).token(&token);
    assert_eq!(with.get("/me").await.expect(200).json()["id"], "ada");
    let robot = authority.issue("robot", "/CN=robot", "");
    for thief in [server.tls_client(), client(&server, &pair, &robot)] {
        let refused = thief.token(&token).get("/me").await.expect(401);
        assert!(refused.header("WWW-Authenticate").contains("invalid_token"), "{}", refused.text());
    }
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// Waits until a socket is told that its credential does not count any more.
async fn closed(socket: &mut Socket, limit: Duration) {
    let told = socket.next(limit).await;
    let code = match &told {
        Some(Incoming::Message(message)) => message["code"].as_str(),
        _ => None,
    };
    assert_eq!(code, Some("credential-expired"), "{told:?}");
    assert_eq!(socket.expect_close(SOON).await.0, 1008);
}

#[tokio::test]
async fn a_removed_entry_and_a_removed_authority_end_what_was_open() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let trusted = directory.path().join("clients.pem");
    std::fs::copy(old.certificate(), &trusted).unwrap();
    let robot = old.issue("robot", "/CN=robot", "");
    let (builder, pair) = secured(directory.path());
    let config = |entry: &str| {
        format!(
            "tls_client_auth = \"optional\"\n[client_certificates.\"{entry}\"]\nrole = \"robot\"\npermissions = [\"read\"]\n"
        )
    };
    let server = builder.client_ca(&trusted, None).config_toml(&config("CN=robot")).start().await;
    let url = format!("wss://localhost:{}/ws/hello", server.port());
    let open = async |identity: &Pair| {
        let mut socket =
            Socket::connect_mutual_tls(&url, server.address(), &pair.pem(), identity, &[]).await.unwrap();
        socket.expect("connected").await;
        socket.expect("subscribed").await;
        socket
    };
    let mut socket = open(&robot).await;
    let requests = client(&server, &pair, &robot);
    requests.get("/me").await.expect(200);
    let rewrite = |entry: &str| {
        std::fs::write(server.dir().join("taskiq-flow.test.toml"), config(entry)).unwrap();
        server.hangup();
    };
    rewrite("CN=another");
    closed(&mut socket, SOON).await;
    assert_eq!(requests.get("/me").await.status, 401, "on the open connection, too");
    rewrite("CN=robot");
    let back = until(SOON, async || (requests.get("/me").await.status == 200).then_some(()));
    assert!(back.await.is_some());

    // Another authority now vouches for clients: the file is replaced, nobody says so.
    let mut socket = open(&robot).await;
    std::fs::copy(new.certificate(), &trusted).unwrap();
    closed(&mut socket, Duration::from_secs(10)).await;
    assert_eq!(requests.get("/me").await.status, 401, "the connection that the old one vouched for");
    assert!(client(&server, &pair, &robot).try_get("/health").await.is_none(), "and no new one is made");
    let robot = new.issue("robot", "/CN=robot", "");
    assert_eq!(client(&server, &pair, &robot).get("/me").await.expect(200).json()["type"], "certificate");
    assert!(answers_with(&server, &pair, SOON).await.is_some());
}
