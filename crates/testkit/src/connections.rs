//! Taking connections.

use tokio::net::{TcpListener, TcpStream};

/// Has each connection answered in a task of its own.
pub(crate) async fn answer_each<F>(listener: TcpListener, answer: impl Fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        // What becomes of one connection is its own affair: clients that go away are part of the tests.
        tokio::spawn(answer(stream));
    }
}
