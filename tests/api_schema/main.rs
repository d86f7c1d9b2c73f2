//! The API is what its OpenAPI document says: schemathesis makes requests of the document, good and bad ones, and every
//! answer must be one that is documented for its operation, and none a 5xx.
//!
//! `scripts/install-test-deps.sh` installs schemathesis below `target/`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Client, Exit, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");
const KEY: &str = "the-key-of-the-schema-tests";
/// Long enough for a busy machine; what bounds the work is the number of requests.
const LIMIT: Duration = Duration::from_secs(420);
/// The cases are the same in each run.
const SEED: &str = "20261124";
/// All that schemathesis knows but two. `positive_data_acceptance`: whether parameters fit a pipeline, or a definition
/// its own names, no schema of the API can say. `object_level_authorization` wants two users of equal rank.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    unsupported_method,allow_header_conformance,use_after_free,ensure_resource_availability,ignored_auth";

const PIPELINES: [&str; 3] = [
    "id: quick\ninputs:\n  n: { type: integer, default: 1 }\ntasks:\n  - { name: double, expression: n * 2, inputs: [n] }\n",
    "id: failing\ntasks:\n  - { name: fail, expression: 1 / 0 }\n",
    "id: waiting\ntimeout: 5m\ntasks:\n  - { name: ask, wait: { signal: go, timeout: 4m } }\n",
];

#[tokio::test]
async fn made_up_requests_get_documented_answers() {
    let server = server().await;
    let document = document(&server).await;
    // Whatever the requests name does not exist, for the most part.
    let exit = schemathesis(&server, &document, "", "", &["--phases", "coverage,fuzzing", "-n", "12"]).await;
    check(&server, &exit, &document).await;
}

#[tokio::test]
async fn requests_about_what_exists_get_documented_answers() {
    let server = server().await;
    let document = document(&server).await;
    let configuration = existing(&server).await;
    // Below the prefix that every path has too.
    let more = ["--phases", "fuzzing", "-n", "25"];
    let exit = schemathesis(&server, &document, "/api", &configuration, &more).await;
    check(&server, &exit, &document).await;
}

async fn server() -> Server {
    let mut server =
        Server::builder(PROGRAM).admin_key(KEY).without_limits().env("TASKIQ_FLOW_REQUIRE_HTTPS", "false");
    for pipeline in PIPELINES {
        server = server.pipeline(pipeline);
    }
    server.start().await
}

/// The document as served, without the answer for all other cases: what is not named is not documented.
async fn document(server: &Server) -> Value {
    let mut document = client(server).get("/openapi.json").await.expect(200).json();
    for item in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in item.as_object_mut().unwrap().values_mut() {
            operation["responses"].as_object_mut().unwrap().shift_remove("default").unwrap();
        }
    }
    document
}

fn client(server: &Server) -> Client {
    server.plain_client().key(KEY)
}

/// Makes runs, schedules, keys and revocations; gives a configuration whose requests are about them.
async fn existing(server: &Server) -> String {
    let client = client(server);
    let mut runs = Vec::new();
    for (pipeline, status) in [("quick", "completed"), ("failing", "failed"), ("waiting", "running")] {
        for _ in 0..2 {
            let started =
                client.post(&format!("/pipelines/{pipeline}/execute"), &json!({})).await.expect(202);
            let id = started.json()["run_id"].as_str().unwrap().to_owned();
            let path = format!("/runs/{id}");
            let there = until(Duration::from_secs(30), async || {
                (client.get(&path).await.expect(200).json()["status"] == status).then_some(())
            });
            assert!(there.await.is_some(), "a run of {pipeline} is not {status}");
            runs.push(id);
        }
    }
    let schedules = ["nightly", "weekly"];
    for id in schedules {
        let schedule = json!({ "id": id, "pipeline_id": "quick", "cron": "0 3 * * *" });
        client.post("/schedules", &schedule).await.expect(201);
    }
    // Several, since some are revoked on the way; that of the configuration cannot be.
    let keys = ["ci", "ops", "spare-1", "spare-2", "spare-3"];
    for id in keys {
        let key = json!({ "id": id, "role": "viewer", "pipelines": ["quick"], "permissions": ["read"] });
        client.post("/security/keys", &key).await.expect(201);
    }
    let me = client.get("/me").await.expect(200).json();
    let keys = [&keys[..], &[me["id"].as_str().unwrap()]].concat();
    let mut revocations = Vec::new();
    for rule in [json!({ "jti": "build-17" }), json!({ "jti": "build-18" }), json!({ "sub": "ada" })] {
        let made = client.post("/security/revocations", &rule).await.expect(201).json();
        revocations.push(made["id"].as_str().unwrap().to_owned());
    }
    let operations = [
        ("^/(pipelines|dag|ws|security/acls)/", json!(["quick", "failing", "waiting", "nobody"])),
        ("^/runs/", json!(runs)),
        ("^/schedules/", json!(schedules)),
        ("^/security/keys/", json!(keys)),
        ("^/security/revocations/", json!(revocations)),
    ];
    operations
        .map(|(paths, ids)| {
            format!(
                "[[operations]]\ninclude-path-regex = '{paths}'\nparameters = {{ \"path.id\" = {ids} }}\n\n"
            )
        })
        .concat()
}

async fn schemathesis(
    server: &Server,
    document: &Value,
    prefix: &str,
    configuration: &str,
    more: &[&str],
) -> Exit {
    let cli = Cli::new(program()).limit(LIMIT).env("NO_COLOR", "1").env("COLUMNS", "160");
    let file = cli.file("openapi.json", &document.to_string());
    let configuration = cli.file("schemathesis.toml", configuration);
    let (url, key) = (format!("{}{prefix}", server.url()), format!("X-API-Key: {KEY}"));
    let (file, configuration) = (file.to_str().unwrap(), configuration.to_str().unwrap());
    let fixed = [
        "--config-file",
        configuration,
        "run",
        file,
        "--url",
        &url,
        "--header",
        &key,
        "--checks",
        CHECKS,
        "--seed",
        SEED,
        "--workers",
        // One: with more, Python's own parser can fail below hypothesis (seen with 3.11).
        "1",
        "--request-timeout",
        "60",
        "--continue-on-failure",
    ];
    cli.run([&fixed[..], more].concat()).await
}

async fn check(server: &Server, exit: &Exit, document: &Value) {
    assert_eq!(exit.code, Some(0), "{}\nthe server says:\n{}", exit.output(), server.stderr());
    let operations = document["paths"].as_object().unwrap().values();
    let operations: usize = operations.map(|item| item.as_object().unwrap().len()).sum();
    let tested = format!("Tested: {operations}");
    assert!(exit.stdout.contains(&tested), "not all {operations} operations:\n{}", exit.stdout);
    assert_eq!(client(server).get("/ready").await.status, 200);
    assert!(!server.stderr().contains("panic"), "{}", server.stderr());
}

fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/bin/schemathesis");
    assert!(program.exists(), "there is no schemathesis: scripts/install-test-deps.sh installs it");
    program
}
