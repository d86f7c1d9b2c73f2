use super::*;
use crate::settings::RateLimitKey;

async fn admitted_of(stage: &Stage, tries: usize, call: impl Fn(usize) -> Call) -> usize {
    let mut admitted = 0;
    for at in 0..tries {
        admitted += usize::from(stage.admit(&call(at)).await.is_ok());
    }
    admitted
}

#[tokio::test]
async fn the_guides_table_holds_to_the_request() {
    for (endpoint, limit) in [
        ("list_pipelines", 60),
        ("get_dag", 120),
        ("get_critical_path", 120),
        ("get_parallel_groups", 120),
        ("execute_pipeline", 10),
        ("get_status", 30),
        ("me", 100),
    ] {
        let stage = stage(|_| ());
        let call = |_| Call { endpoint, ..Call::new().key("viewer-key") };
        assert_eq!(admitted_of(&stage, 130, call).await, limit, "{endpoint}");
        // The bucket refills smoothly: one request's worth of time, one request.
        stage.pass_seconds(60_u64.div_ceil(limit as u64));
        assert!(admitted_of(&stage, 130, call).await <= 2, "{endpoint}");
        stage.pass_seconds(60);
        assert_eq!(admitted_of(&stage, 130, call).await, limit, "{endpoint}");
    }
}

#[tokio::test]
async fn every_answer_tells_the_state_of_the_tighter_bucket() {
    let stage = stage(|options| {
        options.rate_limits.insert("get_dag".to_owned(), "2/hour".to_owned());
    });
    let first = stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    let mut headers = HeaderMap::new();
    first.write_headers(&mut headers);
    assert_eq!(headers["ratelimit-policy"], r#""get_dag";q=2;w=3600"#);
    assert!(headers["ratelimit"].to_str().unwrap().starts_with(r#""get_dag";r=1;"#));
    // From another address: that bucket is full, the principal's is not, and decides.
    let second = stage.admit(&Call::new().key("viewer-key").from("192.0.2.2")).await.unwrap();
    assert!(second.rate_headers()[1].1.to_str().unwrap().starts_with(r#""get_dag";r=0;"#));

    for (call, kind) in [
        (Call::new().from("192.0.2.3"), RefusalKind::MissingCredential),
        (Call::new().key("wrong").from("192.0.2.3"), RefusalKind::InvalidKey),
    ] {
        let refusal = stage.admit(&call).await.unwrap_err();
        assert_eq!(refusal.kind(), kind);
        assert!(header(&refusal, "ratelimit").is_some() && header(&refusal, "retry-after").is_none());
    }
    let throttled = stage.admit(&Call::new().from("192.0.2.3")).await.unwrap_err();
    assert_eq!(throttled.status(), 429);
    let seconds: u64 = header(&throttled, "retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, 1800);
    assert!(header(&throttled, "ratelimit").unwrap().starts_with(r#""get_dag";r=0;"#));
    stage.pass_seconds(seconds);
    assert_eq!(stage.refused(&Call::new().from("192.0.2.3")).await, RefusalKind::MissingCredential);
}

#[tokio::test]
async fn the_key_says_which_buckets_count() {
    let limited = |key| {
        stage(|options| {
            options.rate_limit_key = key;
            options.rate_limits.insert("get_dag".to_owned(), "3/hour".to_owned());
        })
    };
    let same_key = |_| Call::new().key("viewer-key");
    const ADDRESSES: [&str; 8] = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4",
        "192.0.2.5",
        "192.0.2.6",
        "192.0.2.7",
        "192.0.2.8",
    ];
    let roaming = |at: usize| Call::new().key("viewer-key").from(ADDRESSES[at]);
    let two_keys = |at: usize| Call::new().key(["viewer-key", "admin-key"][at % 2]);
    for (key, one_client, roamer, shared_address) in
        [(RateLimitKey::Both, 3, 3, 3), (RateLimitKey::Ip, 3, 8, 3), (RateLimitKey::Principal, 3, 3, 6)]
    {
        assert_eq!(admitted_of(&limited(key), 8, same_key).await, one_client, "{key:?}");
        assert_eq!(admitted_of(&limited(key), 8, roaming).await, roamer, "{key:?}");
        assert_eq!(admitted_of(&limited(key), 8, two_keys).await, shared_address, "{key:?}");
    }
    // Counted by principal, those without one are counted by address still.
    let stage = limited(RateLimitKey::Principal);
    for _ in 0..3 {
        assert_eq!(stage.refused(&Call::new()).await, RefusalKind::MissingCredential);
    }
    assert_eq!(stage.refused(&Call::new()).await, RefusalKind::RateLimited);
}

#[tokio::test]
async fn a_token_cannot_spend_the_quota_of_a_key() {
    let stage = stage(|options| {
        options.rate_limit_key = RateLimitKey::Principal;
        options.rate_limits.insert("get_dag".to_owned(), "1/hour".to_owned());
    });
    stage.admit(&Call::new().bearer(&token("viewer", &[]))).await.unwrap();
    assert!(stage.admit(&Call::new().key("viewer-key")).await.is_ok());
}

#[tokio::test]
async fn invalid_credentials_have_a_bucket_of_their_own() {
    let stage = stage(|options| {
        options.rate_limit_enabled = false;
        options.auth_failure_limit = "3/hour".to_owned();
    });
    // A missing credential does not count, a good one neither.
    for _ in 0..5 {
        assert_eq!(stage.refused(&Call::new()).await, RefusalKind::MissingCredential);
        stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    }
    assert_eq!(stage.refused(&Call::new().key("wrong")).await, RefusalKind::InvalidKey);
    assert_eq!(stage.refused(&Call::new().bearer("x.y.z")).await, RefusalKind::InvalidToken);
    let socket = stage.admit(&Call::socket()).await.unwrap();
    let by_message = stage.guard.authenticate_message(&socket, "wrong").await.unwrap_err();
    assert_eq!(by_message.kind(), RefusalKind::InvalidKey);
    // Spent: nothing from this address is looked at, the right key neither; without credential it is a plain 401.
    for call in [Call::new().key("wrong"), Call::new().key("viewer-key")] {
        let refusal = stage.admit(&call).await.unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::RateLimited);
        assert!(header(&refusal, "retry-after").is_some());
    }
    let refusal = stage.guard.authenticate_message(&socket, "viewer-key").await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::RateLimited);
    assert_eq!(stage.refused(&Call::new()).await, RefusalKind::MissingCredential);
    // Others are not touched, and it passes.
    assert!(stage.admit(&Call::new().key("viewer-key").from("192.0.2.2")).await.is_ok());
    stage.pass_seconds(3600);
    assert!(stage.admit(&Call::new().key("viewer-key")).await.is_ok());
}

#[tokio::test]
async fn an_empty_limit_turns_the_failure_bucket_off() {
    let stage = stage(|options| {
        options.rate_limit_enabled = false;
        options.auth_failure_limit = String::new();
    });
    for _ in 0..50 {
        assert_eq!(stage.refused(&Call::new().key("wrong")).await, RefusalKind::InvalidKey);
    }
}

#[tokio::test]
async fn guessers_within_one_ipv6_network_share_a_bucket() {
    let stage = stage(|options| options.auth_failure_limit = "3/hour".to_owned());
    for peer in ["2001:db8:1:2::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::"] {
        assert_eq!(stage.refused(&Call::new().key("wrong").from(peer)).await, RefusalKind::InvalidKey);
    }
    let same = Call::new().key("viewer-key").from("2001:db8:1:2::9");
    assert_eq!(stage.refused(&same).await, RefusalKind::RateLimited);
    assert!(stage.admit(&Call::new().key("viewer-key").from("2001:db8:1:3::1")).await.is_ok());
    // A third of the hour brings back one of three tries, which a good credential does not spend.
    stage.pass_seconds(1200);
    for _ in 0..3 {
        assert!(stage.admit(&same).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_guesses_are_answered_than_the_limit_says_even_at_once() {
    let stage = Arc::new(stage(|options| {
        options.rate_limit_enabled = false;
        options.auth_failure_limit = "20/hour".to_owned();
    }));
    let guess = |_| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.refused(&Call::new().key("wrong")).await == RefusalKind::InvalidKey })
    };
    let mut told = 0;
    for guess in (0..200).map(guess).collect::<Vec<_>>() {
        told += usize::from(guess.await.unwrap());
    }
    assert_eq!(told, 20);
}

#[tokio::test]
async fn guessing_from_many_addresses_is_told_once_and_locks_nobody_out() {
    let stage = stage(|_| ());
    let peers: Vec<&'static str> = (0..250).map(|n| &*format!("198.51.100.{n}").leak()).collect();
    for peer in &peers {
        assert_eq!(stage.refused(&Call::new().key("wrong").from(peer)).await, RefusalKind::InvalidKey);
    }
    let told = |stage: &Stage| stage.log().matches("credential_guessing").count();
    assert_eq!(told(&stage), 1);
    assert!(stage.admit(&Call::new().key("viewer-key").from("198.51.100.251")).await.is_ok());
    stage.pass_seconds(60);
    for peer in &peers {
        stage.refused(&Call::new().key("wrong").from(peer)).await;
    }
    assert_eq!(told(&stage), 2, "it goes on");
}
