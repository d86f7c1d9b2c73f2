//! `simulate`: what would become of a pipeline, without carrying it out.

use serde_json::{Value, json};
use taskiq_flow_testkit::Cli;

use crate::PROGRAM;

/// Leaves a file behind if it is ever carried out, and waits for somebody without limit.
const CAREFUL: &str = "id: careful\ntasks:\n  - name: touch\n    command: [\"touch\", \"carried-out\"]\n    \
    retry: { max_attempts: 3, delay: 1s }\n  - name: ask\n    wait: { signal: approval }\n    \
    inputs: [touch]\n  - name: each\n    inputs: [ask, xs]\n    map: { over: xs, as: x, expression: \"x + ask\" }\n";

async fn report(cli: &Cli, arguments: &[&str]) -> Value {
    let exit = cli.run([&["simulate", "careful.yaml", "--json"], arguments].concat()).await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap()
}

#[tokio::test]
async fn it_says_what_would_happen_and_does_nothing() {
    let cli = Cli::new(PROGRAM);
    cli.file("careful.yaml", CAREFUL);
    let found = report(&cli, &["--seed", "5", "--runs", "300"]).await;
    let told = &found["report"];
    let count =
        |statuses: &Value| statuses.as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((&told["runs"], &told["violations"]), (&json!(300), &json!([])), "{found:#}");
    assert_eq!(count(&told["statuses"]), 300);
    assert!(
        told["statuses"]["failed"].as_u64() > Some(0) && told["statuses"]["completed"].as_u64() > Some(0)
    );
    assert!(told["crashes"].as_u64() > Some(0), "{found:#}");
    for (step, name) in told["steps"].as_array().unwrap().iter().zip(["touch", "ask", "each"]) {
        assert_eq!((&step["step"], count(&step["statuses"])), (&json!(name), 300), "{found:#}");
    }
    // With retries there are more attempts than runs.
    assert!(told["steps"][0]["attempts"].as_u64() > Some(300), "{found:#}");
    let stuck = &told["stuck"][0];
    assert_eq!((&stuck["step"], &stuck["signal"]), (&json!("ask"), &json!("approval")), "{found:#}");
    assert!(!cli.dir().join("carried-out").exists(), "a task was carried out");
    // The same seed is the same world; without faults there is none.
    assert_eq!(report(&cli, &["--seed", "5", "--runs", "300"]).await, found);
    let faults = found["faults"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let none = faults.collect::<Vec<_>>().join(",");
    let quiet = report(&cli, &["--seed", "5", "--runs", "50", "--without", &none]).await;
    assert_eq!(quiet["report"]["statuses"], json!({"completed": 50}), "{quiet:#}");
    assert_eq!(
        (&quiet["report"]["crashes"], &quiet["report"]["stuck"]),
        (&json!(0), &json!([])),
        "{quiet:#}"
    );
}

#[tokio::test]
async fn it_tells_people_the_seed_and_shows_one_world() {
    let cli = Cli::new(PROGRAM);
    cli.file("careful.yaml", CAREFUL);
    let exit = cli.run(["simulate", "careful.yaml", "--runs", "100"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let seed =
        exit.stdout.lines().next().and_then(|line| line.rsplit_once("from seed ")).map(|(_, seed)| seed);
    let seed: u64 = seed.unwrap().parse().unwrap();
    assert!(exit.stdout.contains("every promise was kept"), "{}", exit.stdout);
    let (_, errors) =
        exit.stdout.split_once("first errors of failed runs:\n").expect("one in ten attempts fails");
    let told = errors.lines().next().unwrap();
    let (_, such) = told.trim_end_matches(')').rsplit_once("(such as seed ").expect(told);
    assert!((seed..seed + 100).contains(&such.parse().unwrap()), "{told}");
    let again = cli.run(["simulate", "careful.yaml", "--runs", "100", "--seed", &seed.to_string()]).await;
    assert_eq!(again.stdout, exit.stdout);
    let trace = cli.run(["simulate", "careful.yaml", "--runs", "1", "--seed", "5", "--trace"]).await;
    for event in ["PipelineStartEvent", "StepStartEvent `touch`"] {
        assert!(trace.stdout.contains(event), "{}", trace.stdout);
    }
    for (arguments, word) in [(["--without", "earthquakes"], "takeovers"), (["--id", "other"], "careful")] {
        let exit = cli.run([&["simulate", "careful.yaml"], arguments.as_slice()].concat()).await;
        assert_eq!(exit.code, Some(2), "{}", exit.stdout);
        assert!(exit.stderr.contains(word), "{}", exit.stderr);
    }
}
