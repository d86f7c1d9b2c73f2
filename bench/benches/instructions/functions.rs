//! What is counted.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_bench::layered_yaml;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::expr::{Expr, Inputs};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::load::load_text;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{
    Command, Effects, Event, EventView, Fact, Input, Outcome, Run, RunStatus, SharedEvent, StepRef,
};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_security::audit::{AuditLogger, AuditOptions};
use taskiq_flow_security::guard::{Access, Guard, RequestFacts, endpoint};
use taskiq_flow_security::rate_limit::{Limit, RateLimiter, RateLimiterOptions};
use taskiq_flow_security::{Permission, Resource, SecurityOptions};

/// One function, called so often that a call is more than the noise.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) calls: u64,
    pub(crate) call: fn(u64),
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function { name: "machine: a run of three steps", calls: 500, call: machine },
    Function { name: "expression: add two numbers", calls: 2_000, call: expression },
    Function { name: "event: as JSON", calls: 2_000, call: event },
    Function { name: "policy: may an API key read a pipeline", calls: 5_000, call: policy },
    Function { name: "guard: admit and authorize a request", calls: 1_000, call: guard },
    Function { name: "rate limiter: check a known address", calls: 5_000, call: known_address },
    Function { name: "rate limiter: check a new address", calls: 2_000, call: new_addresses },
    Function { name: "DAG: plan, graph, levels of 1,000 tasks", calls: 3, call: levels },
    Function { name: "DAG: critical path of 1,000 tasks", calls: 30, call: critical_path },
];

const THREE: &str = "id: three\ninputs:\n  n: { type: integer }\ntasks:\n  \
    - { name: first, expression: \"n + 1\", inputs: [n] }\n  \
    - { name: second, expression: \"first * 2\", inputs: [first] }\n  \
    - { name: third, expression: \"second - 3\", inputs: [second] }\n";
const KEY: &str = "tqf_bench00000000000000000000000000000000000000000";

fn plan(text: &str) -> Plan {
    let Ok(mut pipelines) = load_text("bench.yaml", text, Format::Yaml) else {
        panic!("the input is made to be right")
    };
    Plan::new(Arc::new(pipelines.remove(0))).unwrap()
}

/// From its parameters to its end; what the tasks do is not in it.
fn machine(calls: u64) {
    let plan = Arc::new(plan(THREE));
    let parameters = plan.check_parameters(Map::from_iter([("n".to_owned(), json!(1))])).unwrap();
    let now = Timestamp::from_millis(1_000_000);
    let value = Arc::new(json!(2));
    for _ in 0..calls {
        let mut run = Run::new(Arc::clone(&plan), RunId::new(), &parameters, now);
        let mut effects = run.handle(Input::Start { reuse: Vec::new() }, now).unwrap();
        while let Some(Command::Dispatch(work)) = effects.commands.pop() {
            let input = Input::Finished {
                step_run: work.step_run,
                attempt: work.attempt,
                outcome: Outcome::Completed(Arc::clone(&value)),
                duration: Duration::from_millis(1),
            };
            effects = black_box(run.handle(input, now).unwrap());
        }
        assert_eq!(run.status(), RunStatus::Completed);
        let _: Effects = black_box(effects);
    }
}

fn expression(calls: u64) {
    let expr = Expr::compile("a + b").unwrap();
    let mut inputs = Inputs::default();
    inputs.insert("a".into(), Arc::new(json!(1)));
    inputs.insert("b".into(), Arc::new(json!(2)));
    for _ in 0..calls {
        assert_eq!(black_box(&expr).evaluate(black_box(&inputs)).unwrap(), 3);
    }
}

fn event(calls: u64) {
    let name: Arc<str> = "resize".into();
    let step = StepRef::new(3, 1, Arc::clone(&name), name);
    let result: Arc<Value> = Arc::new(json!({"width": 640, "height": 480, "format": "webp"}));
    let fact = Fact::StepComplete { step, attempt: 1, duration_ms: 12, result, cached: false };
    let event = Event { seq: 7, timestamp: Timestamp::from_millis(1_763_900_000_000), fact };
    let (shared, run_id) = (SharedEvent::from(event), RunId::new());
    for _ in 0..calls {
        let view = EventView::of_run("images".parse().unwrap(), run_id, shared.clone());
        black_box(view.json().unwrap());
    }
}

/// A guard of a hundred keys and access lists that writes no records.
fn a_guard() -> Guard {
    let keys = (0..100).map(|number| {
        let key = if number == 50 { KEY.to_owned() } else { format!("key-{number}") };
        let pipelines = [format!("pipeline-{number}"), "audio_*".to_owned()];
        (key, json!({"id": format!("id-{number}"), "role": "viewer", "pipelines": pipelines, "permissions": ["read"]}))
    });
    let acls = (0..100).map(|number| (format!("pipeline-{number}"), json!({"read": ["viewer", "operator"]})));
    let options = SecurityOptions {
        api_keys: serde_json::from_value(Value::Object(keys.collect())).unwrap(),
        pipeline_acls: serde_json::from_value(Value::Object(acls.collect())).unwrap(),
        rate_limits: [("get_dag".to_owned(), "1000000/second".to_owned())].into(),
        ..SecurityOptions::default()
    };
    let audit = AuditOptions { sinks: Vec::new(), ..AuditOptions::default() };
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    Guard::new(options.build().unwrap(), limiter, AuditLogger::open(audit).unwrap())
}

/// A request as the guard sees it.
fn facts(headers: &axum::http::HeaderMap) -> RequestFacts<'_> {
    RequestFacts {
        peer: Ipv4Addr::new(192, 0, 2, 1).into(),
        native_tls: true,
        client: None,
        method: &axum::http::Method::GET,
        path: "/pipelines/pipeline-50/dag",
        headers,
        request_id: "01939f6e-7b1f-7c3e-9d2a-3b5c7d9e1f20",
        websocket_upgrade: false,
        certificate: None,
    }
}

fn with_a_guard(calls: u64, each: impl AsyncFn(&Guard, &axum::http::HeaderMap, u64)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let guard = a_guard();
        let headers = [("x-api-key".parse().unwrap(), KEY.parse().unwrap())].into_iter().collect();
        each(&guard, &headers, calls).await;
    });
}

fn policy(calls: u64) {
    with_a_guard(calls, async |guard, headers, calls| {
        let caller = guard.admit(endpoint::GET_DAG, Access::Authenticated, facts(headers)).await.unwrap();
        for _ in 0..calls {
            assert!(guard.may_read(black_box(caller.principal()), black_box("pipeline-50")));
        }
    });
}

fn guard(calls: u64) {
    with_a_guard(calls, async |guard, headers, calls| {
        for _ in 0..calls {
            let caller = guard.admit(endpoint::GET_DAG, Access::Authenticated, facts(headers)).await.unwrap();
            let resource = Resource::Pipeline("pipeline-50");
            let _permit = black_box(guard.authorize(&caller, Permission::Read, resource).unwrap());
        }
    });
}

fn known_address(calls: u64) {
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let limit: Limit = "1000000/second".parse().unwrap();
    for _ in 0..calls {
        assert!(limiter.check_here(black_box("get_dag|ip|192.0.2.1"), &limit).allowed);
    }
}

fn new_addresses(calls: u64) {
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let limit: Limit = "100/minute".parse().unwrap();
    for number in 0..calls {
        let key = format!("get_dag|ip|10.{}.{}.1", number / 256, number % 256);
        assert!(limiter.check_here(&key, &limit).allowed);
    }
}

fn levels(calls: u64) {
    let pipeline = Arc::clone(plan(&layered_yaml(1_000)).pipeline());
    for _ in 0..calls {
        // A plan keeps its graph: each call has a new one.
        let plan = Plan::new(Arc::clone(&pipeline)).unwrap();
        assert_eq!(black_box(plan.dag()).levels().len(), 50);
    }
}

fn critical_path(calls: u64) {
    let plan = plan(&layered_yaml(1_000));
    let weights: Vec<u64> = (0..1_000).map(|place| 10 + place % 7).collect();
    for _ in 0..calls {
        black_box(black_box(plan.dag()).critical_path(Some(&weights)).path.len());
    }
}
