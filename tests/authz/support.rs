//! A server with every kind of credential, and the world that the matrix is told of.

use std::time::Duration;

use http::{HeaderMap, Version};
use serde_json::{Value, json};
use taskiq_flow_selftest::client::Client;
use taskiq_flow_selftest::model::Permission::{Admin, Execute, Read};
use taskiq_flow_selftest::model::{Pipeline, Rights};
use taskiq_flow_selftest::world::{Caller, Target, World};
use taskiq_flow_testkit::{Authority, Pair, Server, jwt, until};
use tempfile::TempDir;

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");
const SECRET: &str = "a secret of at least thirty-two bytes";
/// A run id that is well formed and nobody's.
const NO_RUN: &str = "0190a000-0000-7000-8000-000000000000";

const CONFIG: &str = r#"
jwt_secret = "a secret of at least thirty-two bytes"
role_permissions = { admin = ["read", "execute", "admin"], reader = ["read"], runner = ["execute"] }
pipeline_acls.guarded = { read = ["keeper"], execute = ["keeper"] }
rate_limit_enabled = false
auth_failure_limit = ""
tls_client_auth = "optional"

[client_certificates]
"CN=reader" = { role = "viewer", pipelines = ["mine"], permissions = ["read"] }
"uri:spiffe://example.com/keeper" = { role = "keeper", permissions = ["read"] }
"dns:root.example.com" = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
"CN=past" = { role = "admin", permissions = ["admin"], expires_at = "2020-01-01T00:00:00Z" }

[api_keys]
other-key = { role = "viewer", pipelines = ["other"], permissions = ["read", "execute"] }
reader-key = { role = "viewer", pipelines = ["mine"], permissions = ["read"] }
runner-key = { role = "viewer", pipelines = ["mine"], permissions = ["execute"] }
glob-key = { role = "viewer", pipelines = ["mi*", "mis*"], permissions = ["read", "execute"] }
wide-key = { role = "viewer", pipelines = [], permissions = ["read"] }
keeper-key = { role = "keeper", pipelines = ["*"], permissions = ["read"] }
idle-key = { role = "keeper", permissions = [] }
local-key = { role = "admin", pipelines = ["mine"], permissions = ["read", "execute", "admin"] }
admin-key = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
expired-key = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"], expires_at = "2020-01-01T00:00:00Z" }
"#;

const REVOKED: &str = r#"
revoked-key = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
"#;

/// A running server, what it is asked with, and about what.
pub(crate) struct Matrix {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) world: World,
    _certificates: Certificates,
}

/// Certificates of the server and of clients.
struct Certificates {
    server: Pair,
    authority: Authority,
    _directory: TempDir,
}

/// `version` is the version of HTTP that is asked by.
pub(crate) async fn matrix(version: Version) -> Matrix {
    let certificates = Certificates::new();
    let mut builder = Server::builder(PROGRAM)
        .config_toml(&format!("{CONFIG}{REVOKED}"))
        .tls(&certificates.server)
        .client_ca(certificates.authority.certificate(), None);
    for id in ["mine", "other", "guarded"] {
        let yaml = format!("id: {id}\ntasks:\n  - {{ name: probe, expression: \"1\", output: one }}\n");
        builder = builder.pipeline(&yaml);
    }
    let server = builder.start().await;
    revoke(&server).await;
    let mut targets = Vec::new();
    for pipeline in [
        Pipeline::open("mine"),
        Pipeline::open("other"),
        Pipeline::open("guarded").listing(Read, &["keeper"]).listing(Execute, &["keeper"]),
    ] {
        targets.push(target(&server, pipeline).await);
    }
    let (run, schedule) = (NO_RUN.to_owned(), "missing".to_owned());
    targets.push(Target { pipeline: Pipeline::missing("missing"), run, schedule });
    let acls = targets.iter().filter_map(|target| target.pipeline.acl.clone()).collect();
    let world = World { callers: callers(), targets, acls, metrics: Some("/metrics".to_owned()) };
    let client = certificates.client(&server, version);
    Matrix { server, client, world, _certificates: certificates }
}

impl Matrix {
    /// A client of the server, without credential.
    pub(crate) fn plain(&self) -> taskiq_flow_testkit::Client {
        self.server.tls_client()
    }
}

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            server: Pair::self_signed(directory.path(), &[]),
            authority: Authority::new(),
            _directory: directory,
        }
    }

    /// What asks over TLS, with a certificate or without.
    fn client(&self, server: &Server, version: Version) -> Client {
        let trusted = reqwest::Certificate::from_pem(self.server.pem().as_bytes()).unwrap();
        let address = server.address();
        let builder = move || {
            let builder = reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([trusted.clone()])
                .resolve("localhost", address);
            // Left alone, both offer HTTP/2 in the handshake (ALPN) and take it.
            if version == Version::HTTP_11 { builder.http1_only() } else { builder }
        };
        let base = format!("https://localhost:{}", server.port());
        let client = Client::new(&base, HeaderMap::new(), &builder).unwrap();
        let issued = [
            ("reader", "/CN=reader", ""),
            ("keeper", "/CN=whoever", "URI:spiffe://example.com/keeper"),
            ("root", "/CN=reader", "DNS:root.example.com"),
            ("past", "/CN=past", ""),
            ("stranger", "/CN=stranger", ""),
        ];
        issued.into_iter().fold(client, |client, (name, subject, alternatives)| {
            let pair = self.authority.issue(name, subject, alternatives);
            let identity = reqwest::Identity::from_pem(pair.both().as_bytes()).unwrap();
            client.with_certificate(name, || builder().identity(identity.clone())).unwrap()
        })
    }
}

/// Takes `revoked-key` from the configuration of the running server.
async fn revoke(server: &Server) {
    let client = server.tls_client().key("revoked-key");
    client.get("/me").await.expect(200);
    std::fs::write(server.dir().join("taskiq-flow.test.toml"), CONFIG).unwrap();
    server.hangup();
    let gone = until(Duration::from_secs(10), async || (client.get("/me").await.status == 403).then_some(()));
    gone.await.expect("the key is still accepted");
}

/// A pipeline's ended run and its schedule.
async fn target(server: &Server, pipeline: Pipeline) -> Target {
    let admin = server.tls_client().key("admin-key");
    let id = pipeline.id.clone();
    let body = json!({"wait": true, "timeout": 20});
    let run = admin.post(&format!("/pipelines/{id}/execute"), &body).await.expect(200).json();
    let schedule = json!({"id": id, "pipeline_id": id, "at": "2099-01-01T00:00:00Z", "enabled": false});
    admin.post("/schedules", &schedule).await.expect(201);
    Target { pipeline, run: run["run_id"].as_str().unwrap().to_owned(), schedule: id }
}

fn callers() -> Vec<Caller> {
    let key = |key: &str, role: &str, pipelines: &[&str], permissions: &[_]| {
        Caller::with_key(key, key, Rights::of_key(role, pipelines, permissions))
    };
    let token = |name: &str, roles: &[&str], permissions: &[_]| {
        Caller::with_token(
            name,
            &jwt::hs256(SECRET, &claims(roles, 600)),
            Rights::of_token(roles, permissions),
        )
    };
    let certificate = |name: &str, role: &str, pipelines: &[&str], permissions: &[_]| {
        let rights = Rights::of_key(role, pipelines, permissions);
        Caller::with_certificate(&format!("certificate, {name}"), name, rights)
    };
    let idle = |what: &str, name: &str| Caller::with_idle_certificate(what, name);
    let bad = |name: &str, token: String| Caller::with_bad_token(name, &token);
    let none = json!({"alg": "none", "typ": "JWT"});
    let all = [Read, Execute, Admin];
    vec![
        Caller::nobody(),
        Caller::with_bad_key("unknown key", "tqf_nobodys_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG_000000"),
        Caller::with_bad_key("malformed key", "not a key"),
        Caller::with_bad_key("revoked key", "revoked-key"),
        Caller::with_bad_key("expired key", "expired-key"),
        key("other-key", "viewer", &["other"], &[Read, Execute]),
        key("reader-key", "viewer", &["mine"], &[Read]),
        key("runner-key", "viewer", &["mine"], &[Execute]),
        key("glob-key", "viewer", &["mi*"], &[Read, Execute]),
        key("wide-key", "viewer", &[], &[Read]),
        key("keeper-key", "keeper", &[], &[Read]),
        key("idle-key", "keeper", &[], &[]),
        key("local-key", "admin", &["mine"], &all),
        key("admin-key", "admin", &[], &all),
        bad("expired token", jwt::hs256(SECRET, &claims(&["admin"], -600))),
        bad("malformed token", "not.a.token".to_owned()),
        bad("unsigned token", jwt::unsigned(&none, &claims(&["admin"], 600))),
        bad(
            "token signed by another",
            jwt::hs256("another secret of thirty-two bytes", &claims(&["admin"], 600)),
        ),
        token("token by role, read", &["reader"], &[Read]),
        token("token by role, execute", &["runner"], &[Execute]),
        token("token by role, admin", &["admin"], &all),
        token("token by two roles", &["reader", "runner"], &[Read, Execute]),
        token("token by ACL alone", &["keeper"], &[]),
        token("token without a known role", &["nobody"], &[]),
        certificate("reader", "viewer", &["mine"], &[Read]),
        certificate("keeper", "keeper", &[], &[Read]),
        certificate("root", "admin", &[], &all),
        idle("certificate that no entry names", "stranger"),
        idle("certificate whose entry has expired", "past"),
    ]
}

fn claims(roles: &[&str], seconds: i64) -> Value {
    let now = i64::try_from(jwt::from_now(Duration::ZERO)).unwrap();
    json!({"sub": "ada", "roles": roles, "exp": now + seconds})
}
