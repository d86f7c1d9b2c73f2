//! `token revoke`, `token revocations` and `token unrevoke` against a running server.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Exit, Server, jwt};

use crate::support::*;

async fn on(server: &Server, arguments: &[&str]) -> Exit {
    let url = server.url();
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", "k");
    cli.run([&["token"], arguments, &["--url", &url]].concat()).await
}

async fn done(server: &Server, arguments: &[&str]) -> Exit {
    let exit = on(server, arguments).await;
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.output());
    exit
}

#[tokio::test]
async fn tokens_are_refused_until_their_rule_is_taken_back() {
    let mut server = server().env("TASKIQ_FLOW_JWT_SECRET", SECRET).start().await;
    let token = |sub: &str, jti: &str, issued: u64| {
        jwt::hs256(SECRET, &with(json!({ "sub": sub, "jti": jti, "iat": issued })))
    };
    let (now, before) = (jwt::from_now(Duration::ZERO), "2026-02-01T00:00:00Z");
    let stolen = token("ada", "7/f", now - 5);
    let old = token("ada", "8", 1_767_225_600); // 2026-01-01
    let fresh = token("bob", "9", now - 5);

    let rule = done(&server, &["revoke", "--jti", "7/f"]).await;
    assert_eq!((status(&server, &stolen).await, status(&server, &old).await), (401, 200));
    let id = rule.stdout.trim().to_owned();
    assert!(id.starts_with("jti-") && rule.stderr.contains("the token 7/f is refused"), "{}", rule.output());

    let end = "2100-01-01T00:00:00Z";
    let words = ["revoke", "--sub", "ada", "--not-before", before, "--expires-at", end, "--json"];
    let of_subject = done(&server, &words).await;
    let of_subject: Value = serde_json::from_str(&of_subject.stdout).unwrap();
    assert_eq!((&of_subject["sub"], &of_subject["not_before"]), (&json!("ada"), &json!(before)));
    assert_eq!((status(&server, &old).await, status(&server, &fresh).await), (401, 200));

    // By a rule without a time all that was issued until now falls.
    done(&server, &["revoke", "--sub", "bob", "--issuer", "somebody else"]).await;
    assert_eq!(status(&server, &fresh).await, 200);
    let of_bob = done(&server, &["revoke", "--sub", "bob"]).await;
    assert_eq!(status(&server, &fresh).await, 401);
    assert!(of_bob.stderr.contains("tokens of bob that were issued before 20"), "{}", of_bob.stderr);

    server.kill9().await;
    server.restart().await;
    let listed = done(&server, &["revocations"]).await.stdout;
    let row = |start: &str| listed.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(row(&id).contains(" 7/f "), "{listed}");
    let ada = row(of_subject["id"].as_str().unwrap());
    assert!(ada.contains(" ada ") && ada.contains(before) && ada.contains(end), "{listed}");
    assert!(listed.contains(" somebody else "), "{listed}");
    let as_json: Value =
        serde_json::from_str(&done(&server, &["revocations", "--json"]).await.stdout).unwrap();
    assert_eq!(as_json["revocations"].as_array().unwrap().len(), 4, "{as_json}");

    done(&server, &["unrevoke", of_subject["id"].as_str().unwrap()]).await;
    assert_eq!((status(&server, &old).await, status(&server, &stolen).await), (200, 401));
    done(&server, &["unrevoke", &id]).await;
    assert_eq!(status(&server, &stolen).await, 200);
    let again = on(&server, &["unrevoke", &id]).await;
    assert!(again.code == Some(1) && again.stderr.contains("404"), "{}", again.stderr);
}

#[tokio::test]
async fn what_names_no_tokens_or_no_time_is_refused_before_anybody_is_asked() {
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", "k");
    for (arguments, part) in [
        (&["revoke"][..], "--jti"),
        (&["revoke", "--jti", "a", "--sub", "b"], "cannot be used with"),
        (&["revoke", "--jti", "a", "--not-before", "2026-01-01T00:00:00Z"], "cannot be used with"),
        (&["revoke", "--sub", "a", "--not-before", "yesterday"], "--not-before: `yesterday` is no time"),
        (&["revoke", "--jti", "a", "--expires-at", "soon"], "--expires-at: `soon` is no time"),
        (&["unrevoke"], "<ID>"),
    ] {
        let exit = cli.run([&["token"], arguments, &["--url", "http://127.0.0.1:1"]].concat()).await;
        assert!(exit.code == Some(2) && exit.stderr.contains(part), "{arguments:?}: {}", exit.output());
    }
}
