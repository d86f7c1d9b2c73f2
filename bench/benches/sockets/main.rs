//! What WebSockets cost (W7): memory of idle sockets, events of real runs told to many subscribers beside a bare axum and
//! tokio-tungstenite server that sends the same bytes, and a reader that takes nothing among them.
//!
//! The product is the built program in a process of its own, with keys, access lists, audit log and a store in memory; its
//! events come of runs that are started over HTTP. The bare server is a process of this program. Both have the same
//! clients: one thread here that counts frames. Prints one line for each figure.
//! Run: `cargo build --release -p taskiq-flow-cli && cargo bench -p taskiq-flow-bench --bench sockets`.
//! `TURNS` and `TURN_SECONDS` set how long is measured, `IDLE` and `SUBSCRIBERS` how many sockets.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

mod bare;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_bench::asking::Question;
use taskiq_flow_bench::process::{on_their_way, program, resident};
use taskiq_flow_bench::swarm::{Door, Swarm, read_to_close, stalled};
use taskiq_flow_testkit::{Incoming, Server, raise_open_files};

/// The allocator of the program, for the bare server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A key of the length that `taskiq-flow key new` makes; it may read and start one pipeline.
const KEY: &str = "tqf_bench00000000000000000000000000000000000000000";
const HEADERS: &str =
    "x-api-key: tqf_bench00000000000000000000000000000000000000000\r\nx-forwarded-proto: https\r\n";
const PIPELINE: &str = "id: bench\ninputs:\n  n: { type: integer, default: 1 }\ntasks:\n  \
    - { name: first, expression: \"n + 1\", inputs: [n] }\n  \
    - { name: second, expression: \"first * 2\", inputs: [first] }\n  \
    - { name: third, expression: \"second - 3\", inputs: [second] }\n";
/// Batches of messages that are under way at once where throughput is measured.
const WINDOW: u64 = 16;
/// How far apart batches are asked for where delays are measured, and how many of them.
const EVERY: Duration = Duration::from_millis(100);
const PACED: u32 = 60;
/// How the bare server writes: each message by itself, or together what waits for a socket.
const EACH: &str = "bare-each";
const TOGETHER: &str = "bare-together";

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let Some(how @ (EACH | TOGETHER)) = arguments.next().as_deref() {
        return bare::serve(&arguments.next().unwrap(), how == TOGETHER);
    }
    raise_open_files(19_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let product = runtime.block_on(product());
    let messages = runtime.block_on(messages(&product));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages");
    std::fs::write(&file, messages.join("\n")).unwrap();
    let bare = Bare::start(TOGETHER, file.to_str().unwrap());
    let each = Bare::start(EACH, file.to_str().unwrap());
    let batch = messages.len() as u64;
    let bytes = messages.iter().map(String::len).sum::<usize>();
    println!("a run tells {batch} events, {} bytes each", bytes / messages.len());

    let own = Side {
        name: "product",
        door: own_door(product.port()),
        trigger: own_trigger(product.port()),
        pid: product.pid(),
    };
    let other = Side { name: "bare", door: bare.door(), trigger: bare.trigger(), pid: bare.child.id() };
    idle(&[&other, &own]);
    let by_itself = Side {
        name: "bare, each by itself",
        door: each.door(),
        trigger: each.trigger(),
        pid: each.child.id(),
    };
    let (mut swarm_bare, mut swarm_own) = (other.subscribers(), own.subscribers());
    let mut swarm_each = by_itself.subscribers();
    let (turns, seconds) = (number("TURNS", 5), Duration::from_secs(number("TURN_SECONDS", 3)));
    let (mut rates_bare, mut rates_own, mut rates_each) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        rates_each.push(broadcast(&mut swarm_each, &by_itself, batch, seconds));
        rates_bare.push(broadcast(&mut swarm_bare, &other, batch, seconds));
        rates_own.push(broadcast(&mut swarm_own, &own, batch, seconds));
    }
    let (bare_rate, own_rate) = (median(&mut rates_bare), median(&mut rates_own));
    let each_rate = median(&mut rates_each);
    let sockets = swarm_own.len();
    println!(
        "broadcast to {sockets} sockets, bare, each message by itself: {each_rate:.0} messages/s (median of {rates_each:.0?})"
    );
    println!(
        "broadcast to {sockets} sockets, bare, together what waits: {bare_rate:.0} messages/s (median of {rates_bare:.0?})"
    );
    println!(
        "broadcast to {sockets} sockets, product: {own_rate:.0} messages/s = {:.0} % and {:.0} % of bare (median of {rates_own:.0?})",
        100.0 * own_rate / each_rate,
        100.0 * own_rate / bare_rate
    );
    delays(&mut swarm_bare, &other, batch, "");
    delays(&mut swarm_own, &own, batch, "");
    with_a_stalled_reader(&mut swarm_own, &own, batch);
}

/// One of the two servers, as the clients see it.
struct Side<'a> {
    name: &'static str,
    door: Door<'a>,
    trigger: Question,
    pid: u32,
}

impl Side<'_> {
    fn subscribers(&self) -> Swarm {
        let mut swarm = Swarm::new().unwrap();
        swarm.join(number("SUBSCRIBERS", 1000) as usize, self.door).unwrap();
        swarm
    }
}

/// Has as many messages told as can be, for so long; messages that arrived per second.
fn broadcast(swarm: &mut Swarm, side: &Side<'_>, batch: u64, long: Duration) -> f64 {
    let mut asking = side.trigger.connect(202).unwrap();
    let (base, whole) = (swarm.texts(), batch * swarm.len() as u64);
    let begun = Instant::now();
    loop {
        let arrived = (swarm.texts() - base) / whole;
        let over = begun.elapsed() >= long;
        while !over && asking.asked() < arrived + WINDOW {
            asking.ask().unwrap();
        }
        if arrived == asking.asked() {
            break;
        }
        if !swarm.read(Duration::from_secs(5)).unwrap() {
            panic!("{}: messages are missing: {arrived} batches of {} came", side.name, asking.asked());
        }
    }
    let rate = (swarm.texts() - base) as f64 / begun.elapsed().as_secs_f64();
    asking.end().unwrap();
    rate
}

/// How long it takes from asking for a batch until a client has all of it, at a rate that is no strain.
fn delays(swarm: &mut Swarm, side: &Side<'_>, batch: u64, what: &str) {
    let mut asking = side.trigger.connect(202).unwrap();
    swarm.time_batches(batch);
    let (base, begun) = (swarm.texts(), Instant::now());
    let all = batch * swarm.len() as u64 * u64::from(PACED);
    for turn in 0..PACED {
        swarm.asked();
        asking.ask().unwrap();
        let next = begun + (turn + 1) * EVERY;
        while let left = next.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            swarm.read(left).unwrap();
        }
    }
    while swarm.texts() - base < all {
        assert!(swarm.read(Duration::from_secs(5)).unwrap(), "{}: messages are missing", side.name);
    }
    asking.end().unwrap();
    let times = swarm.times();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "from the request to the last event, {}{what}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms ({} batches, one every {} ms, {} sockets)",
        side.name,
        at(0.5),
        at(0.99),
        at(1.0),
        times.len(),
        EVERY.as_millis(),
        swarm.len()
    );
}

fn with_a_stalled_reader(swarm: &mut Swarm, side: &Side<'_>, batch: u64) {
    let reader = stalled(side.door).unwrap();
    let (server, client) = (side.door.port, reader.local_addr().unwrap().port());
    // Until nothing more fits on the way to it.
    let (mut waits, mut same, mut runs) = (0, 0, 0);
    while same < 2 {
        let mut asking = side.trigger.connect(202).unwrap();
        let base = swarm.texts();
        (0..WINDOW).for_each(|_| asking.ask().unwrap());
        while swarm.texts() - base < WINDOW * batch * swarm.len() as u64 {
            assert!(swarm.read(Duration::from_secs(5)).unwrap(), "messages are missing");
        }
        asking.end().unwrap();
        runs += WINDOW;
        let now = on_their_way(server, client).unwrap();
        same = if now == waits && now > 0 { same + 1 } else { 0 };
        waits = now;
    }
    println!("a reader that takes nothing: {waits} bytes wait in the kernel after {} events", runs * batch);
    delays(swarm, side, batch, " beside a reader that takes nothing");
    assert_eq!(on_their_way(server, client).unwrap(), waits, "it was not stalled all the time");
    let rate = broadcast(swarm, side, batch, Duration::from_secs(3));
    println!("broadcast to {} sockets, product, beside it: {rate:.0} messages/s", swarm.len());
    let (code, texts) = read_to_close(reader).unwrap();
    println!("it was closed with {code:?} after {texts} events that were on their way");
}

/// The memory of sockets that are told nothing.
fn idle(sides: &[&Side<'_>]) {
    let count = number("IDLE", 10_000) as usize;
    for side in sides {
        let before = resident(side.pid).unwrap();
        let mut swarm = Swarm::new().unwrap();
        let begun = Instant::now();
        swarm.join(count, side.door).unwrap();
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(1));
        let after = resident(side.pid).unwrap();
        println!(
            "{count} idle sockets, {}: {:.1} KiB each; resident {:.1} MiB before, {:.1} MiB after; {rate:.0} handshakes/s",
            side.name,
            (after - before) as f64 / 1024.0 / count as f64,
            before as f64 / 1048576.0,
            after as f64 / 1048576.0
        );
    }
}

/// The built program, with keys, an access list and an audit log, without limits that the clients would reach.
async fn product() -> Server {
    let keys = json!({ KEY: {"id": "bench", "role": "viewer", "pipelines": ["bench"], "permissions": ["read", "execute"]} });
    let acls = json!({ "bench": {"read": ["viewer"], "execute": ["viewer"]} });
    let limits = ["execute_pipeline", "websocket_connect"].map(|name| (name, json!("1000000/second")));
    Server::builder(program().unwrap())
        .env("TASKIQ_FLOW_STORE_URL", "memory:")
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_PIPELINE_ACLS", acls.to_string())
        .env(
            "TASKIQ_FLOW_RATE_LIMITS",
            Value::Object(limits.map(|(k, v)| (k.to_owned(), v)).into_iter().collect()).to_string(),
        )
        .env("TASKIQ_FLOW_WEBSOCKET_MAX_CONNECTIONS", "18000")
        .env("TASKIQ_FLOW_MAX_CONNECTIONS", "18000")
        .env("TASKIQ_FLOW_LOG_LEVEL", "warn")
        .pipeline(PIPELINE)
        .start()
        .await
}

/// What a run tells, as texts.
async fn messages(server: &Server) -> Vec<String> {
    let mut socket = server.socket("/ws/bench", &[("x-api-key", KEY)]).await.unwrap();
    socket.expect("connected").await;
    socket.expect("subscribed").await;
    let reply = server.client().key(KEY).post("/pipelines/bench/execute", &json!({})).await;
    assert_eq!(reply.status, 202);
    let mut messages = Vec::new();
    while let Some(Incoming::Message(message)) = socket.next(Duration::from_secs(5)).await {
        let last = message["type"] == "PipelineCompleteEvent";
        messages.push(message.to_string());
        if last {
            socket.close().await;
            return messages;
        }
    }
    panic!("a run does not end: {messages:?}")
}

fn own_door(port: u16) -> Door<'static> {
    // It is greeted, and told that it is subscribed.
    Door { port, path: "/ws/bench", headers: HEADERS, greetings: 2 }
}

fn own_trigger(port: u16) -> Question {
    Question::post(port, "/pipelines/bench/execute", HEADERS, "{}")
}

/// The bare server; it ends with this process.
struct Bare {
    child: Child,
    port: u16,
}

impl Bare {
    fn start(how: &str, messages: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([how, messages]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    fn door(&self) -> Door<'static> {
        Door { port: self.port, path: "/ws", headers: "", greetings: 0 }
    }

    fn trigger(&self) -> Question {
        Question::post(self.port, "/go", "", "{}")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
