//! What a server costs that has nothing to do, and what is kept of runs and sockets: the built program, in processes of its
//! own. Prints one line for each figure. Run: `cargo build --release -p taskiq-flow-cli && cargo bench -p taskiq-flow-bench
//! --bench idle`. `SECONDS` sets how long nothing happens, `RUNS` how many runs are kept (at most 10,000: as many ended ones
//! as a store in memory keeps).
//!
//! That the store is not asked is seen by its threads: what writes has a thread of its own, which is not given a processor
//! once; what reads takes a thread of the runtime that lives for ten seconds more, and none appears.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use taskiq_flow_bench::asking::Question;
use taskiq_flow_bench::process::{processor_time, program, resident, threads};
use taskiq_flow_bench::swarm::{Door, Swarm};
use taskiq_flow_testkit::{Server, ServerBuilder, raise_open_files};

const KEY: &str = "tqf_bench00000000000000000000000000000000000000000";
const HEADERS: &str =
    "x-api-key: tqf_bench00000000000000000000000000000000000000000\r\nx-forwarded-proto: https\r\n";
const SOCKETS: usize = 1000;
const SCHEDULES: usize = 100;
/// Three steps in a row, and a run that waits for somebody.
const STEPS: &str = "id: steps\ninputs:\n  n: { type: integer, default: 1 }\ntasks:\n  \
    - { name: first, expression: \"n + 1\", inputs: [n] }\n  \
    - { name: second, expression: \"first * 2\", inputs: [first] }\n  \
    - { name: third, expression: \"second - 3\", inputs: [second] }\n";
const WAITS: &str = "id: waits\ninputs:\n  n: { type: integer, default: 1 }\ntasks:\n  \
    - { name: first, expression: \"n + 1\", inputs: [n] }\n  \
    - { name: approval, wait: { signal: approval }, inputs: [first] }\n  \
    - { name: last, expression: \"approval\", inputs: [approval] }\n";
/// Threads of the store in a file; they work only when it is asked for something.
const STORE: [&str; 2] = ["sqlite-writer", "sqlite-sync"];
/// Longer than a thread of the runtime lives that has done a read (tokio: `thread_keep_alive`, 10 s).
const SETTLE: Duration = Duration::from_secs(12);

fn main() {
    raise_open_files(8_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        for store in ["memory:", "sqlite:state.db"] {
            let server =
                Server::builder(program().unwrap()).env("TASKIQ_FLOW_STORE_URL", store).start().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            println!(
                "a server with nothing, {store} resident {:.1} MiB",
                mib(resident(server.pid()).unwrap())
            );
            server.stop().await;
        }
        nothing_to_do().await;
        for store in ["memory:", "sqlite:state.db"] {
            kept(store).await;
        }
    });
}

fn server(store: &str) -> ServerBuilder {
    Server::builder(program().unwrap())
        .env("TASKIQ_FLOW_STORE_URL", store)
        .env("TASKIQ_FLOW_MAX_CONCURRENT_RUNS", "20000")
        .env("TASKIQ_FLOW_LOG_LEVEL", "warn")
        .admin_key(KEY)
        .without_limits()
        .pipeline(STEPS)
        .pipeline(WAITS)
}

/// A server with schedules that do not fire and sockets that are told nothing.
async fn nothing_to_do() {
    let server = server("sqlite:state.db").start().await;
    let client = server.client().key(KEY);
    for number in 0..SCHEDULES {
        let schedule = json!({"id": format!("s{number}"), "pipeline_id": "steps", "cron": "0 0 29 2 *"});
        let reply = client.post("/schedules", &schedule).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    drop(client);
    let mut swarm = Swarm::new().unwrap();
    let door = Door { port: server.port(), path: "/ws/steps", headers: HEADERS, greetings: 2 };
    swarm.join(SOCKETS, door).unwrap();
    // Pings are answered meanwhile.
    let pass = |swarm: &mut Swarm, long: Duration| {
        let end = Instant::now() + long;
        while let left = end.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            swarm.read(left).unwrap();
        }
    };
    pass(&mut swarm, SETTLE);
    let (pid, seconds) = (server.pid(), number("SECONDS", 30));
    let (before, used, texts, begun) =
        (threads(pid).unwrap(), processor_time(pid).unwrap(), swarm.texts(), Instant::now());
    let mut appeared = BTreeSet::new();
    for _ in 0..seconds {
        pass(&mut swarm, Duration::from_secs(1));
        appeared.extend(threads(pid).unwrap().into_keys().filter(|id| !before.contains_key(id)));
    }
    let (used, lasted) = (processor_time(pid).unwrap() - used, begun.elapsed());
    let after = threads(pid).unwrap();
    println!(
        "{SOCKETS} sockets and {SCHEDULES} schedules for {:.0} s: {:.2} % of a processor ({} heartbeats), resident {:.1} MiB",
        lasted.as_secs_f64(),
        100.0 * used.as_secs_f64() / lasted.as_secs_f64(),
        swarm.texts() - texts,
        mib(resident(pid).unwrap())
    );
    let of_store = before.iter().filter(|(_, thread)| STORE.contains(&&*thread.name));
    let turns: Vec<_> = of_store
        .map(|(id, thread)| {
            format!("{} {}", thread.name, after.get(id).map_or(0, |now| now.turns - thread.turns))
        })
        .collect();
    println!(
        "times that the store's threads worked: {}; threads that appeared, of reads among others: {}",
        turns.join(", "),
        appeared.len()
    );
}

/// What is kept of runs that wait and of those that ended.
async fn kept(store: &str) {
    let runs = number("RUNS", 10_000);
    for (what, pipeline, body, status) in
        [("waiting", "waits", "{}", 202), ("ended", "steps", r#"{"wait": true}"#, 200)]
    {
        let server = server(store).start().await;
        let question =
            Question::post(server.port(), &format!("/pipelines/{pipeline}/execute"), HEADERS, body);
        // What the first ones take for good is not theirs.
        question.connect(status).unwrap().all(100).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = resident(server.pid()).unwrap();
        question.connect(status).unwrap().all(runs).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = resident(server.pid()).unwrap();
        println!(
            "{runs} {what} runs, {store} {:.0} bytes each; resident {:.1} MiB before, {:.1} MiB after",
            after.saturating_sub(before) as f64 / runs as f64,
            mib(before),
            mib(after)
        );
        server.stop().await;
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
