//! What the whole security path costs: HTTPS rule, rate limits, API key, policy with an access list, and two audit
//! records to a file. The same axum route answers the same bytes, headers included, without the guard and behind it; and
//! the product answers, which does more than that (ids of requests, framing, measurements, the answer made anew).
//!
//! The servers run in processes of their own, one after the other in turns, under the same load from this process:
//! 64 connections that each send the next request when the answer is there. `cargo bench --bench security_path`.
//! `cargo bench --bench security_path -- flood` has the product refuse guesses from ever other networks, as fast as they
//! come, beside one connection with a good key.
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
        Some("bare") => servers::bare(&args.next().unwrap_or_default(), &args.next().unwrap_or_default()),
        Some("guarded") => servers::guarded(&args.next().unwrap_or_default()),
        Some("secured") => servers::secured(&args.next().unwrap_or_default()),
        // `--bench` from cargo, or nothing.
        _ if std::env::args().any(|arg| arg == "flood") => flood(),
        _ => compare(),
    }
}

fn compare() {
    let seconds = number("TURN_SECONDS", 3);
    let turns = number("TURNS", 5);
    let secured = servers::Child::start("secured", &["best_effort"]);
    let required = servers::Child::start("secured", &["required"]);
    let headers = format!("x-forwarded-proto: https\r\nx-api-key: {}\r\n", servers::KEY);
    let answer = load::ask(secured.port(), servers::PATH, &headers);
    let guarded = servers::Child::start("guarded", &[&answer.body]);
    let bare = servers::Child::start("bare", &[&answer.body, "content-type: application/json"]);
    // The server writes two of the headers itself.
    let by_server = |name: &str| ["content-length", "date"].contains(&name);
    let behind_guard = load::ask(guarded.port(), servers::PATH, &headers);
    let sent = behind_guard.headers.iter().filter(|(name, _)| !by_server(name));
    let same: Vec<String> = sent.map(|(name, value)| format!("{name}: {value}")).collect();
    let same_bytes = servers::Child::start("bare", &[&answer.body, &same.join("\n")]);

    let all = [
        ("bare axum route, the same body", &bare),
        ("bare axum route, the same bytes", &same_bytes),
        ("that route behind the guard", &guarded),
        ("product, audit_mode best_effort", &secured),
        ("product, audit_mode required", &required),
    ];
    let under = |child: &servers::Child| {
        let headers = headers.as_str();
        let (path, expected) = (servers::PATH, load::OK);
        Load { port: child.port(), path, headers, connections: 64, expected, networks: false }
    };
    all.iter().for_each(|(_, child)| _ = under(child).run(Duration::from_secs(1)));
    let mut reports: Vec<Vec<Report>> = all.iter().map(|_| Vec::new()).collect();
    for _ in 0..turns {
        for ((_, child), reports) in all.iter().zip(&mut reports) {
            reports.push(under(child).run(Duration::from_secs(seconds)));
        }
    }
    println!("body of {} bytes, 64 connections, {turns} turns of {seconds} s, medians", answer.body.len());
    let medians: Vec<Report> = reports.into_iter().map(Report::median).collect();
    let [same_body, same_bytes, ..] = medians.as_slice() else { return };
    for ((name, _), report) in all.iter().zip(&medians) {
        println!(
            "{name:<34} {:>8.0} req/s {:>5.1} % of the same bytes, {:>5.1} % of the same body; p50 {:>5.0} us, p99 {:>5.0} us ({:+.0})",
            report.rate,
            100.0 * report.rate / same_bytes.rate,
            100.0 * report.rate / same_body.rate,
            report.p50_us,
            report.p99_us,
            report.p99_us - same_bytes.p99_us,
        );
    }
}

fn flood() {
    let length = Duration::from_secs(number("TURN_SECONDS", 10));
    let server = servers::Child::start("secured", &["best_effort"]);
    let key = format!("x-forwarded-proto: https\r\nx-api-key: {}\r\n", servers::KEY);
    let guess = "x-forwarded-proto: https\r\nx-api-key: tqf_guess\r\n";
    let (port, path) = (server.port(), servers::PATH);
    let good = Load { port, path, headers: &key, connections: 1, expected: load::OK, networks: false };
    let bad = Load { headers: guess, connections: 64, expected: "HTTP/1.1 403", networks: true, ..good };
    let tell = |what: &str, report: &Report| {
        let Report { rate, p50_us, p99_us } = report;
        println!("{what:<40} {rate:>9.0} req/s  p50 {p50_us:>6.0} us  p99 {p99_us:>6.0} us");
    };
    let alone = good.run(length);
    let before = server.resident_kib();
    let (flood, beside) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| bad.run(length));
        let beside = good.run(length);
        (flood.join(), beside)
    });
    let Ok(flood) = flood else { panic!("the flood broke off") };
    tell("good key, alone", &alone);
    tell("good key, beside the flood", &beside);
    tell("refused guesses, each of a new network", &flood);
    println!("memory of the server: {before} KiB before the flood, {} KiB after it", server.resident_kib());
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
