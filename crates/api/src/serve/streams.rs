//! The streams of an HTTP/2 connection: how many are open, and whether somebody takes what is sent on them.
//!
//! A client can ask for an answer and give it no room to be sent (a window of nothing), answer every ping and so hold
//! the answer for ever: the transport, which is shared by all streams, is never stalled. So each stream is watched.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// That of the stream whose task this is.
    static FLOW: Arc<Flow>;
}

/// Who is to do something on a stream: 0: we are. Else the client is, and the number changes each time that it did.
#[derive(Debug, Default)]
struct Flow(AtomicU64);

/// Runs the streams of one connection, as hyper's executor. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: AtomicUsize,
    /// When the last one ended.
    idle_since: Mutex<Instant>,
    patience: Duration,
    connection: CancellationToken,
}

impl Streams {
    /// None yet. One that the client takes nothing of for as long as `patience` is reset; all of them end when
    /// `connection` is cancelled.
    pub(super) fn new(patience: Duration, connection: CancellationToken) -> Self {
        let idle_since = Mutex::new(Instant::now());
        Self(Arc::new(Inner { open: AtomicUsize::new(0), idle_since, patience, connection }))
    }

    /// Since when there is none; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.0.open.load(Ordering::Acquire) == 0).then(|| *self.0.idle_since.lock())
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        let open = Open(Arc::clone(&self.0));
        tokio::spawn(async move {
            let flow = Arc::new(Flow::default());
            let watched = watched(FLOW.scope(Arc::clone(&flow), stream), &flow, open.0.patience);
            tokio::select! {
                () = watched => {}
                () = open.0.connection.cancelled() => {}
            }
        });
    }
}

/// One stream that is open.
struct Open(Arc<Inner>);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.idle_since.lock() = Instant::now();
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a stream until it ends, or until the client has done nothing for too long where it is its turn. A stream that
/// is dropped before its end is reset.
async fn watched(stream: impl Future, flow: &Flow, patience: Duration) {
    // Boxed: a task has it twice otherwise.
    let mut stream = Box::pin(stream);
    let mut deadline = pin!(tokio::time::sleep(patience));
    let mut seen = 0;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match flow.0.load(Ordering::Relaxed) {
            0 => {
                seen = 0;
                Poll::Pending
            }
            turn => {
                if turn != seen {
                    seen = turn;
                    deadline.as_mut().reset(Instant::now() + patience);
                }
                deadline.as_mut().poll(context)
            }
        }
    })
    .await;
}

/// A body that tells its stream whose turn it is.
pub(super) struct Told<B> {
    body: B,
    flow: Option<Arc<Flow>>,
    frames: u64,
}

impl<B> Told<B> {
    /// A body that is about to be sent. Within the task of its stream.
    pub(super) fn new(body: B) -> Self {
        let flow = FLOW.try_with(Arc::clone).ok();
        let told = Self { body, flow, frames: 1 };
        told.tell(1);
        told
    }

    fn tell(&self, turn: u64) {
        if let Some(flow) = &self.flow {
            flow.0.store(turn, Ordering::Relaxed);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Told<B> {
    type Data = Bytes;
    type Error = B::Error;

    /// It is asked for only when there is room to send what it gives.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(_)) => {
                self.frames += 1;
                self.tell(self.frames);
            }
            Poll::Ready(None) | Poll::Pending => self.tell(0),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
