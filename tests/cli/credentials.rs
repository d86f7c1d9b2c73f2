//! `key` and `token`: what they make, the server takes.

use serde_json::Value;
use taskiq_flow_testkit::{Cli, Server, jwt};

use crate::PROGRAM;

const SECRET: &str = "a secret of at least thirty-two bytes";

#[tokio::test]
async fn a_new_key_opens_the_server_that_knows_only_its_digest() {
    let cli = Cli::new(PROGRAM);
    let exit = cli
        .run(["key", "new", "--role", "ops", "--permissions", "read,execute", "--id", "ops-1", "--json"])
        .await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let made: Value = serde_json::from_str(&exit.stdout).unwrap();
    let key = made["key"].as_str().unwrap();
    let entries = made["api_keys"].to_string();
    assert!(!entries.contains(key) && entries.contains("sha256:"), "{entries}");
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_API_KEYS", entries.clone()).start().await;
    let me = server.client().key(key).get("/me").await.expect(200).text();
    assert!(me.contains("ops-1") && me.contains("\"ops\"") && me.contains("execute"), "{me}");
    // The digest is no key.
    let digest = made["api_keys"].as_object().unwrap().keys().next().unwrap();
    for wrong in [digest.as_str(), digest.trim_start_matches("sha256:")] {
        assert_eq!(server.client().key(wrong).get("/me").await.status, 403);
    }
    // Another is another.
    let again = cli.run(["key", "new"]).await;
    assert_eq!(again.stdout.lines().count(), 1, "the key alone: {}", again.stdout);
    assert_ne!(again.stdout.trim(), key);
    assert!(!again.stderr.contains(again.stdout.trim()), "the key is printed once");
}

#[tokio::test]
async fn hash_gives_the_digest_of_a_key() {
    let cli = Cli::new(PROGRAM);
    let exit = cli.run_with_input(["key", "hash"], "admin-key\n").await;
    assert_eq!(exit.stdout, format!("sha256:{}\n", sha256_by_openssl("admin-key")));
    assert_eq!(exit.code, Some(0));
    let entries = format!("{{\"{}\": {{\"role\": \"r\", \"permissions\": [\"read\"]}}}}", exit.stdout.trim());
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_API_KEYS", entries).start().await;
    assert_eq!(server.client().key("admin-key").get("/me").await.status, 200);
    assert_eq!(cli.run(["key", "hash"]).await.code, Some(2), "no key on standard input");
}

fn sha256_by_openssl(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text");
    std::fs::write(&file, text).unwrap();
    let output =
        std::process::Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_minted_token_is_accepted_by_the_server() {
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_JWT_SECRET", SECRET);
    let exit = cli.run(["token", "mint", "--sub", "alice", "--roles", "admin,ops", "--ttl", "5m"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let token = exit.stdout.trim();
    assert_eq!(exit.stdout.lines().count(), 1);
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_JWT_SECRET", SECRET).start().await;
    let me = server.client().token(token).get("/me").await.expect(200).text();
    assert!(me.contains("alice") && me.contains("ops"), "{me}");
    // What another program signs with the same secret is as good.
    let exp = jwt::from_now(std::time::Duration::from_secs(60));
    let claims = serde_json::json!({ "sub": "bob", "roles": ["admin"], "exp": exp });
    assert_eq!(server.client().token(&jwt::hs256(SECRET, &claims)).get("/me").await.status, 200);
    let exit = Cli::new(PROGRAM).run(["token", "mint", "--sub", "a", "--roles", "r"]).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("jwt_secret"), "{}", exit.stderr);
    let exit = cli.run(["token", "mint", "--sub", "a", "--roles", "r", "--ttl", "long"]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(!exit.output().contains(SECRET));
    let exit = cli.run(["token", "mint", "--sub", "a", "--roles", "r", "--ttl", "1ms"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("--ttl"), "{}", exit.output());
}

#[tokio::test]
async fn a_token_of_one_of_several_issuers_is_made_for_whom_that_one_names() {
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = (folder.path().join("ci.pem"), folder.path().join("ci.pub"));
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", private]);
    openssl(&["pkey", "-in", private, "-pubout", "-out", public]);
    let issuer = |name: &str, audiences: &str| {
        format!(
            "[[jwt_issuers]]\nissuer = \"{name}\"\naudiences = {audiences}\npublic_keys = [{{ algorithm = \"EdDSA\", pem = \"file:{public}\" }}]\n"
        )
    };
    let config = format!(
        "jwt_secret = \"{SECRET}\"\njwt_audience = \"everybody\"\n{}{}",
        issuer("ci", "[]"),
        issuer("staff", "[\"flow\"]")
    );
    let server = Server::builder(PROGRAM).config_toml(&config).start().await;
    let cli = Cli::new(PROGRAM);
    cli.file("taskiq-flow.toml", &config);
    for name in ["ci", "staff"] {
        let words = ["token", "mint", "--sub", "a", "--roles", "admin", "--iss", name, "--key", private];
        let exit = cli.run(words).await;
        assert_eq!(exit.code, Some(0), "{}", exit.output());
        let me = server.client().token(exit.stdout.trim()).get("/me").await.expect(200).json();
        assert_eq!(me["issuer"], name, "{me}");
    }
}
