//! One socket from its handshake to its close.

mod subscribing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::run::EventView;
use taskiq_flow_engine::{Missed, Watched, Watcher};
use taskiq_flow_security::audit::{AuditEvent, Outcome};
use taskiq_flow_security::guard::{CredentialState, Note, PolicyChanges};
use taskiq_flow_security::{Admission, Permission, Resource};
use tokio::time::Instant;

use super::line::{Broken, Frame, Full, LINGER, Line};
use super::message::{ClientMessage, ServerMessage, Target, Who};
use super::rate::MessageRate;
use super::subscription::{Scope, Subscriptions};
use crate::state::AppState;
use crate::stream::{took_to_close, until_expiry};

/// How long a socket may stay without having proved who it is.
const AUTHENTICATION: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A client that has not been heard of for so long, pongs included, has left.
const SILENCE: Duration = Duration::from_secs(95);
/// How long the other end may take to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Events read from the store at once.
const PAGE: usize = 500;
/// Live events that are passed on before anything else is looked at.
const TOGETHER: usize = 64;

const GOING_AWAY: u16 = 1001;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;
const INTERNAL: u16 = 1011;
const TRY_AGAIN: u16 = 1013;

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// With this code, after what waits to be written.
    Close(u16, &'static str),
    /// Its credential or its rights are gone, since the change at that time if one took them.
    Revoked(&'static str, Option<std::time::Instant>),
    /// It reads too slowly; what waits is dropped.
    Slow,
    /// The other end said goodbye or is gone.
    Gone,
}

type Step = Result<(), End>;

struct Session {
    state: AppState,
    caller: Admission,
    /// The pipeline of the path.
    pipeline: Option<String>,
    line: Line,
    subscriptions: Subscriptions,
    /// Of the pipelines of the subscriptions.
    watcher: Watcher,
    changes: PolicyChanges,
    rate: MessageRate,
    heard: Instant,
}

/// Runs a socket until it ends.
pub(super) async fn run(state: AppState, caller: Admission, pipeline: Option<String>, socket: WebSocket) {
    let now = Instant::now();
    let mut session = Session {
        line: Line::new(socket),
        subscriptions: Subscriptions::default(),
        watcher: state.engine().watch(Watched::Pipelines(BTreeSet::new())),
        changes: state.guard().subscribe_policy_changes(),
        rate: MessageRate::new(now),
        heard: now,
        state,
        caller,
        pipeline,
    };
    let end = match session.authenticate().await {
        Ok(()) => session.serve().await,
        Err(end) => end,
    };
    session.end(end).await;
}

impl Session {
    /// Waits until the client has proved who it is, and greets it.
    async fn authenticate(&mut self) -> Step {
        if self.caller.credential() == CredentialState::Awaited {
            let deadline = tokio::time::sleep(AUTHENTICATION);
            tokio::pin!(deadline);
            loop {
                let frame = tokio::select! {
                    frame = self.line.next() => frame,
                    () = &mut deadline => {
                        return self.refuse("authentication-timeout", "No connect message came within 5 seconds.");
                    }
                    () = self.state.closing().cancelled() => return Err(End::Close(GOING_AWAY, "server stops")),
                };
                match self.read(frame)? {
                    None => {}
                    Some(Ok(ClientMessage::Connect { auth: Some(auth) })) => {
                        self.adopt(&auth).await?;
                        break;
                    }
                    Some(_) => {
                        return self.refuse("not-authenticated", "Send a connect message with auth first.");
                    }
                }
            }
        }
        self.note(AuditEvent::WebsocketConnect, Note::default())?;
        self.greet()?;
        if let Some(pipeline) = self.pipeline.clone() {
            let target = Target { pipeline_id: Some(pipeline), run_id: None, after_seq: None };
            self.subscribe(target).await?;
        }
        Ok(())
    }

    async fn serve(&mut self) -> End {
        // What changed between the handshake and here is looked at too.
        let mut outcome = self.recheck(None);
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            if let Err(end) = outcome {
                return end;
            }
            let closing = self.state.closing().clone();
            outcome = tokio::select! {
                frame = self.line.next() => match self.read(frame) {
                    Ok(Some(message)) => self.answer(message).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                event = self.watcher.recv() => self.tell(event).await,
                _ = heartbeat.tick() => self.beat(),
                changed = self.changes.changed() => self.recheck_change(changed),
                () = until_expiry(&self.caller) => self.recheck(None),
                () = closing.cancelled() => Err(End::Close(GOING_AWAY, "server stops")),
            };
        }
    }

    /// What a frame says; nothing for those that need no answer.
    fn read(&mut self, frame: Result<Frame, Broken>) -> Result<Option<Result<ClientMessage, String>>, End> {
        let frame = frame.map_err(|broken| match broken {
            Broken::Gone => End::Gone,
            Broken::Stalled => End::Slow,
        })?;
        let now = Instant::now();
        self.heard = now;
        let message = match frame {
            None | Some(Ok(Message::Close(_))) => return Err(End::Gone),
            Some(Err(error)) => {
                let text = error.to_string();
                // The library has no type for it that reaches us.
                let too_big = text.contains("too long") || text.contains("too big");
                return Err(if too_big { End::Close(TOO_BIG, "message too big") } else { End::Gone });
            }
            Some(Ok(message)) => message,
        };
        if !self.rate.take(now) {
            self.say(&error("too-many-messages", "A client may send 100 messages a minute."))?;
            return Err(End::Close(POLICY, "too many messages"));
        }
        match message {
            Message::Text(text) => Ok(Some(ClientMessage::read(text.as_str()))),
            Message::Binary(_) => {
                self.say(&error("binary", "Messages are JSON texts."))?;
                Err(End::Close(UNSUPPORTED, "binary message"))
            }
            _ => Ok(None),
        }
    }

    async fn answer(&mut self, message: Result<ClientMessage, String>) -> Step {
        match message {
            Ok(ClientMessage::Subscribe(target)) => self.subscribe(target).await,
            Ok(ClientMessage::Unsubscribe(target)) => self.unsubscribe(target),
            Ok(ClientMessage::Ping { id }) => self.say(&ServerMessage::Pong { id }),
            Ok(ClientMessage::Connect { auth: None }) => self.greet(),
            Ok(ClientMessage::Connect { auth: Some(auth) }) => {
                self.adopt(&auth).await?;
                self.note(AuditEvent::WebsocketConnect, Note::default())?;
                self.recheck(None)?;
                self.greet()
            }
            Err(mistake) => self.say(&error("invalid-message", &mistake)),
        }
    }

    /// Takes the credential of a `connect` message.
    async fn adopt(&mut self, auth: &str) -> Step {
        match self.state.guard().authenticate_message(&self.caller, auth).await {
            Ok(caller) => {
                self.caller = caller;
                Ok(())
            }
            Err(refusal) => {
                self.say(&error(refusal.kind().code(), refusal.detail()))?;
                Err(End::Close(POLICY, "not authenticated"))
            }
        }
    }

    fn greet(&mut self) -> Step {
        let principal = Who::of(&self.caller);
        let greeting = ServerMessage::Connected { principal, heartbeat_seconds: HEARTBEAT.as_secs() };
        self.line.send(&greeting).map_err(|Full| End::Slow)
    }

    /// Passes an event on, and some of those that wait behind it.
    async fn tell(&mut self, mut next: Result<Arc<EventView>, Missed>) -> Step {
        // Whether a pipeline may be read is asked once for events that are passed on in one go, and asked anew in the next: a
        // policy that changed a moment ago counts already.
        let mut asked = None;
        let mut following = self.watcher.take_waiting(TOGETHER).into_iter();
        loop {
            match next {
                Ok(event) => {
                    if self.may_read(&event.pipeline_id, &mut asked) && self.subscriptions.take(&event) {
                        self.line.send_event(&event).map_err(|Full| End::Slow)?;
                    }
                }
                Err(Missed::Events(pipeline)) => {
                    self.missed(&pipeline).await?;
                    asked = None;
                }
                Err(Missed::All) => return Err(End::Close(GOING_AWAY, "server stops")),
            }
            let Some(another) = following.next() else { return Ok(()) };
            next = another;
        }
    }

    /// Whether the caller may read a pipeline; `asked`: what the answer was a moment ago.
    fn may_read(&self, pipeline: &PipelineId, asked: &mut Option<(PipelineId, bool)>) -> bool {
        match asked {
            Some((known, readable)) if known == pipeline => *readable,
            _ => {
                let readable = self.state.guard().may_read(self.caller.principal(), pipeline.as_str());
                *asked = Some((pipeline.clone(), readable));
                readable
            }
        }
    }

    /// Events of this pipeline came faster than they were taken. What the caller may not read costs it nothing.
    async fn missed(&mut self, pipeline: &PipelineId) -> Step {
        if !self.state.guard().may_read(self.caller.principal(), pipeline.as_str()) {
            return Ok(());
        }
        if self.subscriptions.can_catch_up(pipeline) { self.catch_up().await } else { Err(End::Slow) }
    }

    /// Sends what the store has of the runs that are subscribed to by themselves and was not sent.
    async fn catch_up(&mut self) -> Step {
        for (run_id, mut after) in self.subscriptions.runs() {
            loop {
                let page = self.state.engine().events(run_id, after, PAGE).await.map_err(|error| {
                    tracing::error!(%run_id, %error, "a socket ends: the log cannot be read");
                    End::Close(INTERNAL, "internal error")
                })?;
                let Some(last) = page.last() else { break };
                after = last.event.seq;
                for event in &page {
                    if self.subscriptions.take(event) {
                        self.send_patiently(event).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends an event that may have to wait for the reader. What the caller may read can change meanwhile.
    async fn send_patiently(&mut self, event: &EventView) -> Step {
        self.recheck(None)?;
        loop {
            // A wait that is given up has sent nothing.
            let changed = tokio::select! {
                biased;
                changed = self.changes.changed() => changed,
                sent = self.line.send_patiently(event) => return sent.map_err(|Full| End::Slow),
            };
            self.recheck_change(changed)?;
        }
    }

    fn beat(&mut self) -> Step {
        if self.heard.elapsed() > SILENCE {
            return Err(End::Close(GOING_AWAY, "no sign of life"));
        }
        self.line.ping().map_err(|Full| End::Slow)?;
        self.say(&ServerMessage::Heartbeat {
            timestamp: taskiq_flow_core::time::Timestamp::now().to_string(),
        })
    }

    /// [`Session::recheck`] after a change; `false`: none will come any more.
    fn recheck_change(&mut self, changed: bool) -> Step {
        match changed {
            true => self.recheck(Some(self.changes.last())),
            false => Err(End::Close(GOING_AWAY, "server stops")),
        }
    }

    /// Asks again whether the caller may stay and read what it is subscribed to. `since`: the change that is the reason.
    fn recheck(&mut self, since: Option<std::time::Instant>) -> Step {
        let Some(caller) = self.state.guard().revalidate(&self.caller) else {
            // Where there is no room for it, the close says as much.
            let _ = self.line.send(&error("credential-expired", "The credential is no longer accepted."));
            return Err(End::Revoked("credential no longer accepted", since));
        };
        self.caller = caller;
        for subscription in self.subscriptions.iter() {
            let resource = match &subscription.scope {
                Scope::All => Resource::AnyPipeline,
                Scope::Pipeline(id) => Resource::Pipeline(id.as_str()),
            };
            if let Err(refusal) = self.state.guard().authorize(&self.caller, Permission::Read, resource) {
                let refused = error(refusal.kind().code(), refusal.detail());
                let _ = self.line.send(&refused);
                return Err(End::Revoked("not allowed any more", since));
            }
        }
        Ok(())
    }

    fn say(&mut self, message: &impl serde::Serialize) -> Step {
        self.line.send(message).map_err(|Full| End::Slow)
    }

    fn refuse(&mut self, code: &'static str, detail: &'static str) -> Step {
        let note = Note { outcome: Some(Outcome::Denied), detail: Some(code), ..Note::default() };
        self.note(AuditEvent::WebsocketDenied, note)?;
        self.say(&error(code, detail))?;
        Err(End::Close(POLICY, "not authenticated"))
    }

    fn note(&mut self, event: AuditEvent, note: Note<'_>) -> Step {
        match self.state.guard().note(&self.caller, event, note) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.say(&error(refusal.kind().code(), refusal.detail()))?;
                Err(End::Close(INTERNAL, "audit log unavailable"))
            }
        }
    }

    async fn end(self, end: End) {
        let Self { state, caller, mut line, .. } = self;
        let (code, reason) = match end {
            End::Close(code, reason) => (Some(code), reason),
            End::Revoked(reason, _) => (Some(POLICY), reason),
            End::Slow => (Some(TRY_AGAIN), "reads too slowly; resume with after_seq"),
            End::Gone => (None, "closed by the client"),
        };
        let detail = match code {
            Some(code) => format!("{code} {reason}"),
            None => reason.to_owned(),
        };
        let note = Note { status: code, detail: Some(&detail), ..Note::default() };
        if let Err(refusal) = state.guard().note(&caller, AuditEvent::WebsocketClose, note) {
            tracing::error!(reason = refusal.reason(), "the close of a socket could not be recorded");
        }
        let until = match end {
            End::Slow => Instant::now() + LINGER,
            _ => Instant::now() + GOODBYE,
        };
        let farewell = async {
            match (&end, code) {
                (End::Slow, Some(code)) => line.drop_reader(code, reason).await,
                (End::Revoked(_, since), Some(code)) => {
                    line.close_soon(code, reason).await;
                    if let Some(since) = since {
                        took_to_close("websocket", since.elapsed());
                    }
                }
                (_, Some(code)) => line.close(code, reason).await,
                (_, None) => line.end().await,
            }
            // Unread bytes would make the kernel reset the connection, and the goodbye would be lost.
            let limit = until.max(Instant::now() + GOODBYE);
            let _ = tokio::time::timeout_at(limit, line.drain()).await;
        };
        let stopping = async {
            state.closing().cancelled().await;
            // What a stopping server says is written at once or not at all.
            tokio::time::sleep(2 * GOODBYE).await;
        };
        tokio::select! {
            () = farewell => {}
            () = stopping => {}
        }
    }
}

fn error<'a>(code: &'a str, detail: &'a str) -> ServerMessage<'a> {
    ServerMessage::Error { code, detail }
}
