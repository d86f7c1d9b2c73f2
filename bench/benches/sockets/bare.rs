//! The other server: axum and tokio-tungstenite with nothing around them. It sends the same messages to everybody who has
//! opened a socket: each by itself, as such a broadcaster is usually written, or what waits for a socket together, as fast
//! as these two libraries let it.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

/// Messages that may wait for a socket, as many as events may for one of the product.
const BACKLOG: usize = 4096;

#[derive(Clone)]
struct Site {
    messages: Arc<[Utf8Bytes]>,
    sender: Sender<Utf8Bytes>,
    together: bool,
}

/// Serves until its standard input ends; a POST sends the messages, one for each line of the file.
pub(crate) fn serve(messages: &str, together: bool) {
    let text = std::fs::read_to_string(messages).unwrap();
    let messages = text.lines().map(Utf8Bytes::from).collect();
    let site = Site { messages, sender: Sender::new(BACKLOG), together };
    let router = Router::new().route("/ws", get(open)).route("/go", post(go)).with_state(site);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let parent_is_gone =
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            _ = axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| _ = stream.set_nodelay(true)), router).into_future() => {}
            _ = parent_is_gone => {}
        }
    });
}

async fn go(State(site): State<Site>) -> StatusCode {
    for message in &*site.messages {
        // The only error is that nobody listens.
        let _ = site.sender.send(message.clone());
    }
    StatusCode::ACCEPTED
}

async fn open(State(site): State<Site>, upgrade: WebSocketUpgrade) -> Response {
    let receiver = site.sender.subscribe();
    upgrade.read_buffer_size(4 << 10).on_upgrade(move |socket| pass_on(socket, receiver, site.together))
}

async fn pass_on(socket: WebSocket, mut receiver: Receiver<Utf8Bytes>, together: bool) {
    let (mut sink, mut stream) = socket.split();
    loop {
        let first = tokio::select! {
            frame = stream.next() => match frame {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            message = receiver.recv() => message,
        };
        let mut next = match first {
            Ok(message) => Some(message),
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        while let Some(message) = next {
            if sink.feed(Message::Text(message)).await.is_err() {
                return;
            }
            next = if together { receiver.try_recv().ok() } else { None };
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}
