//! What is on its way to a client: bounded, and written by a task of its own, so that a slow reader holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// Messages that may wait.
const MESSAGES: usize = 1024;
/// Bytes that may wait. A longer message waits alone.
const BYTES: u32 = 8 << 20;
/// How long a replay waits for a reader to make room.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a close may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long one may take whose reader has lost its rights.
const BRISK: Duration = Duration::from_millis(500);
/// How long a reader that was too slow may take to come to its goodbye: what the kernel holds for it comes first.
pub(super) const LINGER: Duration = Duration::from_secs(25);
/// A message that is not written by then says that nobody reads; together with [`LINGER`] a little less than the
/// minute after which the transport gives up and nothing can be said any more.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes a second that a reader takes at least, on top of that.
const SLOWEST: u64 = 16 << 10;

/// The way out.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<(Message, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
    overtake: oneshot::Sender<CloseFrame>,
    writer: AbortOnDropHandle<()>,
    stalled: Arc<AtomicBool>,
}

/// Why nothing more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The other end is gone.
    Gone,
    /// It reads nothing, or nearly.
    Stalled,
}

/// The reader is too slow, or gone.
#[derive(Debug)]
pub(super) struct Full;

impl Outbox {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>) -> Self {
        let (queue, waiting) = mpsc::channel(MESSAGES);
        let (overtake, overtaken) = oneshot::channel();
        let stalled = Arc::default();
        let writer =
            AbortOnDropHandle::new(tokio::spawn(write(sink, waiting, overtaken, Arc::clone(&stalled))));
        Self { queue, bytes: Arc::new(Semaphore::new(BYTES as usize)), overtake, writer, stalled }
    }

    /// Puts a message at the end of the queue if there is room now.
    pub(super) fn send(&self, message: &impl Serialize) -> Result<(), Full> {
        let Some(text) = text_of(message) else { return Ok(()) };
        self.push(Message::Text(text))
    }

    /// As [`Outbox::send`], but gives the reader some time to make room.
    pub(super) async fn send_patiently(&self, message: &impl Serialize) -> Result<(), Full> {
        let Some(text) = text_of(message) else { return Ok(()) };
        let send = async {
            let size = size_of(text.len());
            let permit = Arc::clone(&self.bytes).acquire_many_owned(size).await.map_err(|_| Full)?;
            self.queue.send((Message::Text(text), permit)).await.map_err(|_| Full)
        };
        tokio::time::timeout(PATIENCE, send).await.unwrap_or(Err(Full))
    }

    /// Asks the other end for a sign of life.
    pub(super) fn ping(&self) -> Result<(), Full> {
        self.push(Message::Ping(bytes::Bytes::new()))
    }

    /// Waits until nobody can be written to any more.
    pub(super) async fn is_broken(&self) -> Broken {
        self.queue.closed().await;
        if self.stalled.load(Ordering::Acquire) { Broken::Stalled } else { Broken::Gone }
    }

    /// Says goodbye after all that waits, or before it when that does not fit any more.
    pub(super) async fn close(self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        match self.push(Message::Close(Some(frame.clone()))) {
            Ok(()) => self.end().await,
            Err(Full) => self.close_now(frame).await,
        }
    }

    /// Says goodbye after all that waits, to a reader that may not read on: what is not read within [`BRISK`] never is.
    pub(super) async fn close_soon(self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        if let Err(Full) = self.push(Message::Close(Some(frame.clone()))) {
            // The only error is that the writer has ended.
            let _ = self.overtake.send(frame);
            return finish(self.writer, BRISK).await;
        }
        let Self { queue, overtake, writer, .. } = self;
        drop(queue);
        finish(writer, BRISK).await;
        drop(overtake);
    }

    /// Says goodbye before anything that waits, and gives a slow reader [`LINGER`] to come to it.
    pub(super) async fn drop_reader(self, code: u16, reason: &'static str) {
        self.close_now(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }).await;
    }

    /// Answers the other end's goodbye.
    pub(super) async fn end(self) {
        let Self { queue, overtake, writer, .. } = self;
        drop(queue);
        finish(writer, 2 * FAREWELL).await;
        drop(overtake);
    }

    async fn close_now(self, frame: CloseFrame) {
        // The only error is that the writer has ended.
        let _ = self.overtake.send(frame);
        finish(self.writer, LINGER).await;
    }

    fn push(&self, message: Message) -> Result<(), Full> {
        let size = match &message {
            Message::Text(text) => size_of(text.len()),
            _ => 1,
        };
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(size).map_err(|_| Full)?;
        self.queue.try_send((message, permit)).map_err(|_| Full)
    }
}

fn text_of(message: &impl Serialize) -> Option<Utf8Bytes> {
    match serde_json::to_string(message) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            tracing::error!(%error, "a message cannot be written down");
            None
        }
    }
}

fn size_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(BYTES).clamp(1, BYTES)
}

/// Dropped, the writer ends.
async fn finish(writer: AbortOnDropHandle<()>, deadline: Duration) {
    // The only errors are that it took too long, and that it ended some other way.
    let _ = tokio::time::timeout(deadline, writer).await;
}

/// Writes until the queue ends, the other end is gone, or a goodbye overtakes what waits.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<(Message, OwnedSemaphorePermit)>,
    mut overtaken: oneshot::Receiver<CloseFrame>,
    stalled: Arc<AtomicBool>,
) {
    let frame = loop {
        let next = tokio::select! {
            biased;
            frame = &mut overtaken => break frame,
            next = queue.recv() => next,
        };
        let Some((message, _room)) = next else {
            // Who cannot be told is gone anyway.
            let _ = tokio::time::timeout(FAREWELL, sink.flush()).await;
            return;
        };
        let last = matches!(message, Message::Close(_));
        let patience = STALLED + Duration::from_secs(length(&message) / SLOWEST);
        // A send that is given up has left its message in the socket's own buffer, in front of the goodbye.
        let sent = tokio::select! {
            biased;
            frame = &mut overtaken => break frame,
            sent = tokio::time::timeout(patience, sink.send(message)) => sent,
        };
        match sent {
            Ok(Ok(())) if !last => {}
            Ok(_) => return,
            Err(_) => {
                stalled.store(true, Ordering::Release);
                queue.close();
                break overtaken.await;
            }
        }
    };
    // What waited is not held while the reader comes to its goodbye.
    drop(queue);
    if let Ok(frame) = frame
        && sink.send(Message::Close(Some(frame))).await.is_ok()
    {
        // Who cannot be told is gone anyway.
        let _ = sink.flush().await;
    }
}

fn length(message: &Message) -> u64 {
    match message {
        Message::Text(text) => text.len() as u64,
        _ => 0,
    }
}
