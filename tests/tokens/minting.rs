//! `token mint` with keys of one's own.

use serde_json::json;
use taskiq_flow_testkit::Cli;

use crate::support::*;

#[tokio::test]
async fn a_token_signed_with_a_private_key_is_accepted_where_the_public_one_is_known() {
    let cli = Cli::new(PROGRAM);
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let key = key(algorithm);
        let private = cli.file("private.pem", &key.private_pem());
        let issuers = json!([{
            "issuer": "ci", "audiences": ["flow"],
            "public_keys": [{ "algorithm": algorithm, "kid": "ci-1", "pem": key.public_pem() }],
        }]);
        let server = server().env("TASKIQ_FLOW_JWT_ISSUERS", issuers.to_string()).start().await;
        let private = private.to_str().unwrap();
        let words = [
            "token",
            "mint",
            "--sub",
            "build",
            "--roles",
            "admin",
            "--iss",
            "ci",
            "--aud",
            "flow",
            "--jti",
            "b-1",
            "--nbf",
            "2020-01-01T00:00:00Z",
            "--key",
            private,
            "--alg",
            algorithm,
            "--kid",
            "ci-1",
        ];
        let exit = cli.run(words).await;
        assert_eq!(exit.code, Some(0), "{algorithm}: {}", exit.output());
        let me = server.client().token(exit.stdout.trim()).get("/me").await.expect(200).json();
        assert_eq!(me["id"], "build", "{algorithm}");
    }
}

#[tokio::test]
async fn what_cannot_be_signed_is_said() {
    let cli = Cli::new(PROGRAM);
    let private = cli.file("private.pem", &key("ES256").private_pem());
    let public = cli.file("public.pem", &key("ES256").public_pem());
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    for (more, says) in [
        (vec!["--key", public], "private key"),
        (vec!["--key", "/nowhere/at/all.pem"], "cannot be read"),
        (vec!["--key", private, "--alg", "RS256"], "RS256"),
        (vec!["--key", private, "--alg", "none"], "--alg"),
        (vec!["--key", private, "--nbf", "soon"], "--nbf"),
        (vec!["--key", private, "--nbf", "2999-01-01T00:00:00Z"], "nbf"),
        (vec!["--kid", "x"], "--key"),
        (vec![], "jwt_secret"),
    ] {
        let words = [vec!["token", "mint", "--sub", "a", "--roles", "r"], more.clone()].concat();
        let exit = cli.run(words).await;
        assert_eq!(exit.code, Some(2), "{more:?}: {}", exit.output());
        assert!(exit.stderr.contains(says), "{more:?}: {}", exit.stderr);
        assert!(!exit.output().contains("BEGIN"), "{}", exit.output());
    }
}
