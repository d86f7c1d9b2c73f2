//! One suite for every storage of the rate limiter: memory, and a real Redis server.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::time::Duration;

use taskiq_flow_security::rate_limit::{Limit, RateLimiter, RateLimiterOptions};

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

/// What every storage must do. Takes about a second of real time, because Redis has a clock of its own.
async fn conforms(limiter: &RateLimiter, other_replica: &RateLimiter) {
    // A burst of exactly N, whichever replica asks.
    let ten = limit("10/minute");
    for left in (0..10).rev() {
        let asked = if left % 2 == 0 { limiter } else { other_replica };
        let d = asked.check("burst", &ten).await;
        assert_eq!((d.allowed, d.limit, d.remaining, d.retry_after), (true, 10, left, None));
        assert_eq!(d.window, Duration::from_secs(60));
    }
    let d = other_replica.check("burst", &ten).await;
    assert_eq!((d.allowed, d.remaining, d.retry_after_seconds()), (false, 0, Some(6)));
    assert!(d.reset_after > Duration::from_secs(50) && d.reset_after <= Duration::from_secs(60));
    // Keys are apart; a brace, a space or a line end in one changes nothing.
    for key in ["burst2", "{burst}", "a b\r\nc", "", "burst|ip|2001:db8::/64"] {
        assert_eq!(limiter.check(key, &ten).await.remaining, 9, "{key:?}");
    }
    // Looking is free.
    for _ in 0..3 {
        assert_eq!(limiter.peek("looked at", &ten).await.remaining, 10);
    }
    limiter.check("looked at", &ten).await;
    let d = limiter.peek("looked at", &ten).await;
    assert_eq!((d.allowed, d.remaining), (true, 9));
    assert!(!limiter.peek("burst", &ten).await.allowed);
    // A smooth refill.
    let quick = limit("5/second");
    for _ in 0..5 {
        assert!(limiter.check("refill", &quick).await.allowed);
    }
    let refused = limiter.check("refill", &quick).await;
    assert!(!refused.allowed);
    tokio::time::sleep(refused.retry_after.unwrap() + Duration::from_millis(20)).await;
    assert!(limiter.check("refill", &quick).await.allowed);
    assert!(!limiter.check("refill", &quick).await.allowed);
    // Several quotas: taken together or not at all, the tightest told.
    let both = limit("2/second;3/hour");
    assert!(limiter.check("both", &both).await.allowed);
    let d = limiter.check("both", &both).await;
    assert_eq!((d.allowed, d.limit, d.remaining), (true, 2, 0));
    let d = limiter.check("both", &both).await;
    assert_eq!((d.allowed, d.limit), (false, 2));
    tokio::time::sleep(d.retry_after.unwrap() + Duration::from_millis(20)).await;
    assert!(limiter.check("both", &both).await.allowed);
    let d = limiter.check("both", &both).await;
    assert_eq!((d.allowed, d.window), (false, Duration::from_secs(3600)));
    // Odd numbers lose nobody a request.
    for text in ["7/second", "13/7 minutes", "999/day", "1000/3 seconds"] {
        let odd = limit(text);
        let burst = odd.quotas().next().unwrap().burst();
        let first = limiter.check(text, &odd).await;
        assert_eq!((first.remaining, first.limit), (burst - 1, burst), "{text}");
    }
    // Callers at the same moment share one burst.
    let fifty = limit("50/day");
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let asked = if n % 2 == 0 { limiter.clone() } else { other_replica.clone() };
            let fifty = fifty.clone();
            tokio::spawn(async move { asked.check("together", &fifty).await.allowed })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += u32::from(task.await.unwrap());
    }
    assert_eq!(allowed, 50);
    assert!(limiter.ready().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    conforms(&limiter, &limiter.clone()).await;
}

#[cfg(feature = "redis")]
mod redis {
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use secrecy::SecretString;
    use taskiq_flow_security::rate_limit::{OnStorageError, RateLimitStorageError};

    use super::*;

    const PASSWORD: &str = "a-password-of-the-test";

    /// A real server on a free port of the loopback.
    struct Server {
        port: u16,
        process: Child,
        folder: tempfile::TempDir,
    }

    impl Server {
        async fn start() -> Self {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            Self::start_at(port).await
        }

        async fn start_at(port: u16) -> Self {
            Self::start_with(port, &[]).await
        }

        async fn start_with(port: u16, more: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let process = Command::new("redis-server")
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--requirepass",
                    PASSWORD,
                ])
                .arg("--dir")
                .arg(folder.path())
                .args(more)
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed by `make test`");
            let server = Self { port, process, folder };
            let until = Instant::now() + Duration::from_secs(10);
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                assert!(Instant::now() < until, "redis-server does not answer");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            server
        }

        fn url(&self, password: &str) -> SecretString {
            format!("redis://:{password}@127.0.0.1:{}/0", self.port).into()
        }

        async fn limiter(&self, on_error: OnStorageError) -> RateLimiter {
            RateLimiter::redis(self.url(PASSWORD), on_error, RateLimiterOptions::default()).await.unwrap()
        }

        async fn command(&self, words: &[&str]) -> ::redis::Value {
            let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port);
            let client = ::redis::Client::open(url).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let mut command = ::redis::cmd(words[0]);
            command.arg(&words[1..]).query_async(&mut connection).await.unwrap()
        }

        async fn keys(&self) -> Vec<(String, i64)> {
            let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port);
            let client = ::redis::Client::open(url).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
            let mut found = Vec::new();
            for key in keys {
                let ttl = ::redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
                found.push((key, ttl));
            }
            found
        }

        fn stop(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            _ = self.process.kill();
            _ = self.process.wait();
            _ = self.folder.path();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn redis_conforms() {
        let server = Server::start().await;
        let one = server.limiter(OnStorageError::Deny).await;
        let two = server.limiter(OnStorageError::Deny).await;
        conforms(&one, &two).await;
        assert_eq!(one.entries(), 0);
        for (key, ttl) in server.keys().await {
            assert!(key.starts_with("taskiq-flow:rate:{") && key.ends_with('}'), "{key}");
            // -2: its few seconds were over before it was asked; -1 would be a key that stays for ever.
            assert!(ttl == -2 || (0..=86_400_001).contains(&ttl), "{key} lives {ttl} ms");
        }
    }

    /// A node that has every slot. One that has not refuses a script whose keys are in several.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cluster_node_conforms() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Nodes talk to each other by a second port.
        let second = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &second.to_string()];
        let server = Server::start_with(port, &cluster).await;
        server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        let until = Instant::now() + Duration::from_secs(10);
        let one = server.limiter(OnStorageError::Deny).await;
        while !one.check("is it up?", &limit("100/second")).await.allowed {
            assert!(Instant::now() < until, "the cluster does not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        conforms(&one, &server.limiter(OnStorageError::Deny).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn scripts_that_the_server_forgot_are_sent_again() {
        let server = Server::start().await;
        let limiter = server.limiter(OnStorageError::Deny).await;
        let five = limit("5/hour");
        for left in (0..5).rev() {
            assert_eq!(limiter.check("k", &five).await.remaining, left);
            server.command(&["SCRIPT", "FLUSH"]).await;
        }
        assert!(!limiter.check("k", &five).await.allowed);
        // By its digest only, as long as the server has it.
        let calls = server.command(&["INFO", "commandstats"]).await;
        let calls = format!("{calls:?}");
        assert!(calls.contains("cmdstat_evalsha"), "{calls}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_outage_is_bridged_or_refused_quickly_and_ends() {
        let mut server = Server::start().await;
        let local = server.limiter(OnStorageError::Local).await;
        let deny = server.limiter(OnStorageError::Deny).await;
        let three = limit("3/hour");
        assert!(local.check("k", &three).await.allowed && deny.check("d", &three).await.allowed);
        server.stop();
        let begun = Instant::now();
        let mut allowed = 0;
        for _ in 0..50 {
            allowed += u32::from(local.check("k", &three).await.allowed);
            let d = deny.check("d", &three).await;
            assert_eq!((d.allowed, d.limit, d.retry_after_seconds()), (false, 3, Some(1)));
        }
        assert_eq!(allowed, 3, "the local buckets count");
        assert!(
            // A hundred waits for an answer would take 25 seconds.
            begun.elapsed() < Duration::from_secs(5),
            "an outage must not slow requests: {:?}",
            begun.elapsed()
        );
        assert!(!local.ready().await);
        let server = Server::start_at(server.port).await;
        let until = Instant::now() + Duration::from_secs(5);
        while !deny.check("d2", &three).await.allowed {
            assert!(Instant::now() < until, "the storage is not used again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(local.ready().await);
        assert_eq!(local.check("k", &three).await.remaining, 2);
        assert!(!server.keys().await.is_empty());
    }

    #[tokio::test]
    async fn a_server_that_hangs_costs_one_request_a_quarter_second() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
        let limiter = RateLimiter::redis(url.into(), OnStorageError::Local, RateLimiterOptions::default())
            .await
            .unwrap();
        let begun = Instant::now();
        for _ in 0..100 {
            limiter.check("k", &limit("1/hour")).await;
        }
        // It is asked again once a second; if each request waited, they would take 25 seconds.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(!limiter.check("k", &limit("1/hour")).await.allowed);
    }

    #[tokio::test]
    async fn no_password_is_told_to_anybody() {
        let server = Server::start().await;
        let wrong = server.url("the-wrong-one");
        let limiter =
            RateLimiter::redis(wrong, OnStorageError::Deny, RateLimiterOptions::default()).await.unwrap();
        assert!(!limiter.ready().await);
        assert!(!limiter.check("k", &limit("1/hour")).await.allowed);
        assert!(!format!("{limiter:?}").contains("wrong-one"));
        for url in [
            "http://:hunter2@x",
            "redis://:hunter2@host:99999",
            "hunter2",
            "",
            "rediss://:hunter2@host:99999",
        ] {
            let refused = RateLimiter::redis(url.into(), OnStorageError::Deny, RateLimiterOptions::default())
                .await
                .unwrap_err();
            assert_eq!(refused, RateLimitStorageError::Url, "{url}");
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }
}
