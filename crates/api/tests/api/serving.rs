//! The accept loop.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_api::ServeOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, server, server_with};

/// A server on a socket, its address, and what stops it.
async fn listen(server: &Server) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let options = ServeOptions { drain: Duration::from_secs(2), ..ServeOptions::default() };
    let served = taskiq_flow_api::serve(listener, server.router.clone(), options, shutdown.clone());
    (address, shutdown, tokio::spawn(served))
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let read = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[tokio::test]
async fn the_peer_is_known_and_its_word_counts_when_it_is_trusted() {
    let server = server().await;
    let (address, shutdown, served) = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /me HTTP/1.1\r\nHost: x\r\nX-API-Key: admin-key\r\n";
    let plain = exchange(&mut stream, &format!("{request}\r\n")).await;
    assert!(plain.starts_with("HTTP/1.1 403") && plain.contains("HTTPS required"), "{plain}");
    // On the same connection.
    let proxied = exchange(&mut stream, &format!("{request}X-Forwarded-Proto: https\r\n\r\n")).await;
    assert!(proxied.starts_with("HTTP/1.1 200"), "{proxied}");
    assert!(!proxied.to_lowercase().contains("\r\nserver:"), "{proxied}");
    shutdown.cancel();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end() {
    let server = server_with(|setup| setup.security.require_https = false).await;
    let (address, shutdown, served) = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({"wait": true, "timeout": 20}).to_string();
    let head = "POST /pipelines/gate/execute HTTP/1.1\r\nHost: x\r\nX-API-Key: admin-key\r\nContent-Type: application/json";
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let run = crate::support::until(async || {
        let page = server.get("/runs").await.json();
        page["runs"][0]["run_id"].as_str().map(str::to_owned)
    })
    .await;
    shutdown.cancel();
    server.post(&format!("/runs/{run}/signals/go"), json!(1)).await;
    let answer = exchange(&mut stream, "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("completed"), "{answer}");
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_the_head_of_a_request_is_cut_off() {
    let server = server().await;
    let (address, _shutdown, _served) = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut rest = Vec::new();
    let begun = tokio::time::Instant::now();
    let _ =
        tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await.expect("cut off");
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_an_end() {
    let server = server_with(|setup| setup.security.require_https = false).await;
    let (address, shutdown, served) = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({"wait": true, "timeout": 300}).to_string();
    let head = "POST /pipelines/gate/execute HTTP/1.1\r\nHost: x\r\nX-API-Key: admin-key\r\nContent-Type: application/json";
    stream
        .write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .await
        .unwrap();
    crate::support::until(async || {
        let page = server.get("/runs").await.json();
        page["runs"][0]["run_id"].as_str().map(str::to_owned)
    })
    .await;
    let begun = tokio::time::Instant::now();
    shutdown.cancel();
    served.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
