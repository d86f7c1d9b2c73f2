//! What the rate limiter's memory grows by under a scan of addresses; prints it, and fails above the bound that the
//! threat model names. `cargo run --release -p taskiq-flow-bench --bin limiter_memory`

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::time::Instant;

use taskiq_flow_security::rate_limit::{Limit, RateLimiter, RateLimiterOptions, guide_limits, ip_key};

const CLIENTS: u128 = 100_000;
const BOUND_KIB: u64 = 32 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let ten: Limit = "10/day".parse()?;
    let base = u128::from("2001:db8::".parse::<Ipv6Addr>()?);
    let key = |endpoint: &str, ip: u128| format!("{endpoint}|ip|{}", ip_key(Ipv6Addr::from_bits(ip).into()));
    let before = resident_kib()?;
    let mut inside = 0;
    for host in 0..CLIENTS {
        inside += u64::from(limiter.check(&key("execute_pipeline", base + host), &ten).await.allowed);
    }
    println!(
        "{CLIENTS} addresses of one /64: {inside} requests let through, {} bucket(s)",
        limiter.entries()
    );
    let started = Instant::now();
    let mut checks = 0_u64;
    for network in 1..=CLIENTS {
        // Every client asks for every endpoint of the guide, and guesses a key.
        for (endpoint, limit) in guide_limits() {
            limiter.check(&key(endpoint, base + (network << 64)), &limit).await;
            checks += 1;
        }
        limiter.check(&key("auth_failure", base + (network << 64)), &ten).await;
        checks += 1;
    }
    let nanos = started.elapsed().as_nanos() / u128::from(checks);
    let still = limiter.check(&key("execute_pipeline", base + 1), &ten).await;
    let grown = resident_kib()?.saturating_sub(before);
    println!("{CLIENTS} networks, {checks} checks: {} buckets, {nanos} ns each", limiter.entries());
    println!("resident memory grew by {grown} KiB (bound: {BOUND_KIB} KiB)");
    println!("the first client is {}", if still.allowed { "let in again" } else { "limited still" });
    let sound = grown < BOUND_KIB && inside < 12 && !still.allowed;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the kernel counts as resident for this process (proc(5), `VmRSS`).
fn resident_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
