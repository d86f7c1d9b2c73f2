//! The line to a client: what comes from it, and what is on its way to it. That is bounded, and written as the client takes
//! it, so that a slow reader holds up nobody.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use taskiq_flow_core::run::EventView;
use tokio::time::{Instant, Sleep};

/// Messages that may wait.
const MESSAGES: usize = 1024;
/// Bytes that may wait. A longer message waits alone.
const BYTES: usize = 8 << 20;
/// How long a replay waits for a reader to make room.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a close may take to be written.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long one may take whose reader has lost its rights.
const BRISK: Duration = Duration::from_millis(500);
/// How long a reader that was too slow may take to come to its goodbye: what the kernel holds for it comes first.
pub(super) const LINGER: Duration = Duration::from_secs(25);
/// A message that is not written by then says that nobody reads; together with [`LINGER`] a little less than the
/// minute after which the transport gives up and nothing can be said any more.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes a second that a reader takes at least, on top of that.
const SLOWEST: u64 = 16 << 10;
/// As many messages of a replay wait at least before they are written: many small ones cost one call into the system.
const TOGETHER: usize = 64;

/// A socket and what waits to be written to it. It is written while [`Line::next`] is polled.
#[derive(Debug)]
pub(super) struct Line {
    socket: WebSocket,
    waiting: VecDeque<Message>,
    /// The bytes of what waits.
    bytes: usize,
    /// Whether the socket's own buffer may hold something.
    unflushed: bool,
    /// When the reader counts as stalled, while it takes nothing.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long it has for what was given to the socket last.
    patience: Duration,
    broken: Option<Broken>,
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

/// What comes of a line: a frame, or what is wrong with it; none after the last one.
pub(super) type Frame = Option<Result<Message, axum::Error>>;

impl Line {
    pub(super) fn new(socket: WebSocket) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            bytes: 0,
            unflushed: false,
            deadline: None,
            patience: STALLED,
            broken: None,
        }
    }

    /// Puts a message at the end of the queue if there is room now.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), Full> {
        let Some(text) = text_of(message) else { return Ok(()) };
        self.push(Message::Text(text))
    }

    /// [`Line::send`] of an event, whose text all sockets share.
    pub(super) fn send_event(&mut self, event: &EventView) -> Result<(), Full> {
        let Some(text) = text_of_event(event) else { return Ok(()) };
        self.push(Message::Text(text))
    }

    /// As [`Line::send_event`], but gives the reader some time to make room.
    pub(super) async fn send_patiently(&mut self, event: &EventView) -> Result<(), Full> {
        let Some(text) = text_of_event(event) else { return Ok(()) };
        let message = Message::Text(text);
        let room = poll_fn(|context| {
            if self.waiting.len() >= TOGETHER || !self.has_room(&message) {
                match self.poll_written(context) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Full)),
                    Poll::Pending if !self.has_room(&message) => return Poll::Pending,
                    _ => {}
                }
            }
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(PATIENCE, room).await.unwrap_or(Err(Full))?;
        self.push(message)
    }

    /// Asks the other end for a sign of life.
    pub(super) fn ping(&mut self) -> Result<(), Full> {
        self.push(Message::Ping(bytes::Bytes::new()))
    }

    /// The next frame; none after the last one. What waits is written meanwhile. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When nothing more can be written.
    pub(super) async fn next(&mut self) -> Result<Frame, Broken> {
        poll_fn(|context| {
            if let Poll::Ready(Err(broken)) = self.poll_written(context) {
                return Poll::Ready(Err(broken));
            }
            self.socket.poll_next_unpin(context).map(Ok)
        })
        .await
    }

    /// Reads what still comes, and forgets it.
    pub(super) async fn drain(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Says goodbye after all that waits, or before it when that does not fit any more.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        match self.push(goodbye(code, reason)) {
            Ok(()) => self.finish(FAREWELL).await,
            Err(Full) => self.overtake(code, reason, LINGER).await,
        }
    }

    /// Says goodbye after all that waits, to a reader that may not read on: what is not read within [`BRISK`] never is.
    pub(super) async fn close_soon(&mut self, code: u16, reason: &'static str) {
        match self.push(goodbye(code, reason)) {
            Ok(()) => self.finish(BRISK).await,
            Err(Full) => self.overtake(code, reason, BRISK).await,
        }
    }

    /// Says goodbye before anything that waits, and gives a slow reader [`LINGER`] to come to it.
    pub(super) async fn drop_reader(&mut self, code: u16, reason: &'static str) {
        self.overtake(code, reason, LINGER).await;
    }

    /// Answers the other end's goodbye.
    pub(super) async fn end(&mut self) {
        self.finish(FAREWELL).await;
    }

    async fn overtake(&mut self, code: u16, reason: &'static str, limit: Duration) {
        // What waited is not held while the reader comes to its goodbye. What the socket has in its own buffer goes first.
        let goodbye = goodbye(code, reason);
        self.bytes = length(&goodbye);
        self.waiting = VecDeque::from([goodbye]);
        if self.broken == Some(Broken::Stalled) {
            (self.broken, self.deadline) = (None, None);
        }
        self.finish(limit).await;
    }

    /// Writes all that waits. Who cannot be told within the limit is gone anyway.
    async fn finish(&mut self, limit: Duration) {
        // The library may have an answer of its own to write.
        self.unflushed = true;
        let _ = tokio::time::timeout(limit, poll_fn(|context| self.poll_written(context))).await;
    }

    fn push(&mut self, message: Message) -> Result<(), Full> {
        if self.broken.is_some() || !self.has_room(&message) {
            return Err(Full);
        }
        self.bytes += length(&message);
        self.waiting.push_back(message);
        Ok(())
    }

    fn has_room(&self, message: &Message) -> bool {
        let fits = self.bytes + length(message) <= BYTES || self.waiting.is_empty();
        fits && self.waiting.len() < MESSAGES
    }

    /// Ready once all is written, or nothing more can be.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(broken));
        }
        let before = self.waiting.len();
        match self.poll_sink(context) {
            Poll::Ready(Ok(())) => {
                self.deadline = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(_)) => self.broken = Some(Broken::Gone),
            Poll::Pending => {
                let moved = self.waiting.len() < before;
                let patience = self.patience;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                if moved {
                    deadline.as_mut().reset(Instant::now() + patience);
                }
                ready!(deadline.as_mut().poll(context));
                self.broken = Some(Broken::Stalled);
            }
        }
        Poll::Ready(self.broken.map_or(Ok(()), Err))
    }

    fn poll_sink(&mut self, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        while !self.waiting.is_empty() {
            ready!(self.socket.poll_ready_unpin(context))?;
            let Some(message) = self.waiting.pop_front() else { break };
            let length = length(&message);
            self.bytes -= length;
            self.patience = STALLED + Duration::from_secs(length as u64 / SLOWEST);
            self.unflushed = true;
            self.socket.start_send_unpin(message)?;
        }
        if self.waiting.capacity() > 4 * TOGETHER {
            // What a burst took is given back.
            self.waiting = VecDeque::new();
        }
        if self.unflushed {
            ready!(self.socket.poll_flush_unpin(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn text_of(message: &impl Serialize) -> Option<Utf8Bytes> {
    serde_json::to_string(message).map(Into::into).map_err(|error| no_text(&error)).ok()
}

fn text_of_event(event: &EventView) -> Option<Utf8Bytes> {
    let json = event.json().map_err(|error| no_text(&error)).ok()?;
    Utf8Bytes::try_from(json).map_err(|error| no_text(&error)).ok()
}

fn no_text(error: &dyn std::error::Error) {
    tracing::error!(%error, "a message cannot be written down");
}

fn goodbye(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }))
}

/// What counts of a message towards the bound.
fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        _ => 1,
    }
}
