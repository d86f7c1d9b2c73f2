//! What the whole security path costs: HTTPS rule, rate limits, API key, policy with an access list, and two audit
//! records to a file, against a bare axum route that answers the same bytes.
//!
//! Both servers run in processes of their own, one after the other in turns, under the same load from this process:
//! 64 connections that each send the next request when the answer is there. `cargo bench --bench security_path`.
//! `TURN_SECONDS` sets the length of a turn (default 3), `TURNS` how many there are of each (default 5).

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

mod load;
mod servers;

use std::time::Duration;

use load::{Load, Report};

/// The allocator of the program, for both servers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("bare") => servers::bare(&args.next().unwrap_or_default()),
        Some("secured") => servers::secured(&args.next().unwrap_or_default()),
        // `--bench` from cargo, or nothing.
        _ => compare(),
    }
}

fn compare() {
    let seconds = number("TURN_SECONDS", 3);
    let turns = number("TURNS", 5);
    let secured = servers::Child::start("secured", "best_effort");
    let required = servers::Child::start("secured", "required");
    let headers = format!("x-forwarded-proto: https\r\nx-api-key: {}\r\n", servers::KEY);
    let answer = load::ask(secured.port(), servers::PATH, &headers);
    let bare = servers::Child::start("bare", &answer.body);

    let under = |port| Load { port, path: servers::PATH, headers: &headers, connections: 64 };
    let turn = Duration::from_secs(seconds);
    for port in [bare.port(), secured.port(), required.port()] {
        under(port).run(Duration::from_secs(1));
    }
    let (mut plain, mut best_effort, mut strict) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        plain.push(under(bare.port()).run(turn));
        best_effort.push(under(secured.port()).run(turn));
        strict.push(under(required.port()).run(turn));
    }
    let (plain, best_effort, strict) =
        (Report::median(plain), Report::median(best_effort), Report::median(strict));
    println!("body of {} bytes, 64 connections, {turns} turns of {seconds} s, medians", answer.body.len());
    for (name, report) in [
        ("bare axum route", &plain),
        ("secured, audit_mode best_effort", &best_effort),
        ("secured, audit_mode required", &strict),
    ] {
        println!(
            "{name:<34} {:>9.0} req/s  p50 {:>6.0} us  p99 {:>6.0} us  {:>5.1} % of bare, p99 {:+.0} us",
            report.rate,
            report.p50_us,
            report.p99_us,
            100.0 * report.rate / plain.rate,
            report.p99_us - plain.p99_us,
        );
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
