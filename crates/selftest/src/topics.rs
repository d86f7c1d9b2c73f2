//! WebSocket topics: what a socket may subscribe to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, ClientError, Incoming, Socket};
use crate::model::{Permission, Rights, may, may_list};
use crate::plan::{Scope, may_have};
use crate::world::{Credential, Standing, World};

/// How long a socket is watched to see that it says nothing.
const SILENCE: Duration = Duration::from_millis(150);
/// Close: the policy says no.
const POLICY: u16 = 1008;

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A pipeline, by its place in the world.
    Pipeline(usize),
    /// A run, by the place of its pipeline.
    Run(usize),
    /// `*`.
    All,
}

/// How the credential comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// With the handshake.
    Handshake,
    /// In the `connect` message.
    Message,
}

/// One socket, and what it asks for in order.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who opens it, by its place in the world.
    pub caller: usize,
    /// The pipeline of the path, by its place in the world; none: `/ws`.
    pub pipeline: Option<usize>,
    /// How it proves who it is.
    pub by: By,
    /// Whether it is opened below `/api`.
    pub below_api: bool,
    /// What it subscribes to. Only the last may be refused: that closes the socket.
    pub topics: Vec<Topic>,
}

/// What must become of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// `subscribed`.
    Taken,
    /// `error`; the socket stays open.
    Unknown,
    /// `error`, then close 1008.
    Refused,
}

/// Every socket of the matrix.
pub fn sessions(world: &World, scope: Scope) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (caller, who) in world.callers.iter().enumerate() {
        let session = |pipeline, by, below_api, topics| Session { caller, pipeline, by, below_api, topics };
        let Standing::Good(rights) = &who.standing else {
            sessions.push(session(None, By::Handshake, false, vec![Topic::All]));
            if who.is_bad() && scope == Scope::Full {
                sessions.push(session(None, By::Message, false, vec![]));
            }
            continue;
        };
        // A certificate comes with the connection; there is nothing to say in a message.
        let in_message = match who.credential {
            Credential::Certificate(_) => By::Handshake,
            _ => By::Message,
        };
        let (taken, refused): (Vec<_>, Vec<_>) =
            topics(world).into_iter().partition(|topic| fate(*topic, rights, world) != Fate::Refused);
        let mut first = taken.clone();
        first.extend(refused.first());
        match scope {
            Scope::Full => {
                sessions.push(session(None, By::Handshake, false, first.clone()));
                sessions.push(session(None, in_message, true, first));
                let more = refused.iter().skip(1).map(|topic| vec![*topic]);
                sessions.extend(more.map(|topics| session(None, By::Handshake, false, topics)));
                let paths = (0..world.targets.len()).map(Some);
                sessions.extend(paths.map(|pipeline| session(pipeline, By::Handshake, false, vec![])));
            }
            Scope::Sampled => {
                let by = if caller % 2 == 0 { By::Handshake } else { in_message };
                sessions.push(session(None, by, caller % 3 == 0, first));
            }
        }
    }
    sessions
}

/// What is wrong with how the server treats a socket, if something is. `Err` of the inner kind: it wants to be asked
/// again after this time.
///
/// # Errors
/// There is no answer.
pub async fn fault(
    session: &Session,
    world: &World,
    client: &Client,
) -> Result<Result<Option<String>, Duration>, ClientError> {
    let who = &world.callers[session.caller];
    let path = match session.pipeline {
        Some(target) => format!("/ws/{}", world.targets[target].pipeline.id),
        None => "/ws".to_owned(),
    };
    let path = if session.below_api { format!("/api{path}") } else { path };
    let presented = if session.by == By::Handshake { &who.credential } else { &Credential::None };
    let must_open = session.by == By::Message || !who.is_bad();
    let mut socket = match client.open(&path, presented).await? {
        Ok(_) if !must_open => return Ok(Ok(Some("the handshake was accepted".to_owned()))),
        Ok(socket) => socket,
        Err(answer) => {
            if let Some(wait) = answer.retry_after() {
                return Ok(Err(wait));
            }
            let wanted = match who.standing {
                Standing::BadKey => 403,
                Standing::BadToken => 401,
                _ => 101,
            };
            let wrong = must_open || answer.status != wanted;
            return Ok(Ok(wrong.then(|| format!("handshake: {} instead of {wanted}", answer.status))));
        }
    };
    let fault = talk(session, world, &mut socket).await;
    socket.close().await;
    Ok(Ok(fault))
}

async fn talk(session: &Session, world: &World, socket: &mut Socket) -> Option<String> {
    let who = &world.callers[session.caller];
    if session.by == By::Message || who.standing == Standing::Absent {
        // Told nothing before it has said who it is.
        match socket.next(SILENCE).await {
            Incoming::Nothing => {}
            other => return Some(format!("before the credential: {other:?}")),
        }
    }
    if session.by == By::Message {
        let auth = match &who.credential {
            Credential::None | Credential::Certificate(_) => "",
            Credential::Key(text) | Credential::Token(text) => text,
        };
        socket.say(&json!({"type": "connect", "auth": auth})).await;
        if who.is_bad() {
            return refused(socket, "a bad credential").await;
        }
    }
    let Standing::Good(rights) = &who.standing else {
        socket.say(&subscribe(Topic::All, world)).await;
        return refused(socket, "a subscription without credential").await;
    };
    match socket.answer().await {
        Incoming::Message(message) if message["type"] == "connected" => {}
        other => return Some(format!("no `connected`: {other:?}")),
    }
    if let Some(target) = session.pipeline {
        let fate = fate(Topic::Pipeline(target), rights, world);
        if let Some(fault) = meets(socket, fate, "the pipeline of the path").await {
            return Some(fault);
        }
    }
    for topic in &session.topics {
        socket.say(&subscribe(*topic, world)).await;
        let name = name(*topic, world);
        if let Some(fault) = meets(socket, fate(*topic, rights, world), &name).await {
            return Some(fault);
        }
    }
    None
}

fn topics(world: &World) -> Vec<Topic> {
    let places = 0..world.targets.len();
    let pipelines = places.clone().map(Topic::Pipeline);
    pipelines.chain(places.map(Topic::Run)).chain([Topic::All]).collect()
}

fn fate(topic: Topic, rights: &Rights, world: &World) -> Fate {
    let (allowed, exists) = match topic {
        Topic::Pipeline(target) => {
            let pipeline = &world.targets[target].pipeline;
            (may(rights, Permission::Read, pipeline), pipeline.exists)
        }
        Topic::Run(target) => {
            let target = &world.targets[target];
            (may_have(rights, Permission::Read, target), target.pipeline.exists)
        }
        Topic::All => (may_list(rights, Permission::Read, &world.acls), true),
    };
    match (allowed, exists) {
        (false, _) => Fate::Refused,
        (true, true) => Fate::Taken,
        (true, false) => Fate::Unknown,
    }
}

fn subscribe(topic: Topic, world: &World) -> Value {
    match topic {
        Topic::Pipeline(target) => {
            json!({"type": "subscribe", "pipeline_id": world.targets[target].pipeline.id})
        }
        Topic::Run(target) => json!({"type": "subscribe", "run_id": world.targets[target].run}),
        Topic::All => json!({"type": "subscribe", "pipeline_id": "*"}),
    }
}

fn name(topic: Topic, world: &World) -> String {
    match topic {
        Topic::Pipeline(target) => format!("pipeline `{}`", world.targets[target].pipeline.id),
        Topic::Run(target) => format!("a run of `{}`", world.targets[target].pipeline.id),
        Topic::All => "`*`".to_owned(),
    }
}

async fn meets(socket: &mut Socket, fate: Fate, what: &str) -> Option<String> {
    match fate {
        Fate::Refused => refused(socket, what).await,
        Fate::Taken | Fate::Unknown => {
            let wanted = if fate == Fate::Taken { "subscribed" } else { "error" };
            match socket.answer().await {
                Incoming::Message(message) if message["type"] == wanted => None,
                other => Some(format!("{what}: {other:?} instead of `{wanted}`")),
            }
        }
    }
}

/// `error`, then close 1008.
async fn refused(socket: &mut Socket, what: &str) -> Option<String> {
    match socket.answer().await {
        Incoming::Message(message) if message["type"] == "error" => {}
        other => return Some(format!("{what}: {other:?} instead of `error`")),
    }
    match socket.answer().await {
        Incoming::Closed(POLICY) => None,
        other => Some(format!("{what}: {other:?} instead of close {POLICY}")),
    }
}
