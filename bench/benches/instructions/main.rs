//! How many instructions the hot functions take for one call, counted by valgrind, and so the same on a busy machine as on
//! a quiet one. Stands beside the counts of `expected.txt`; ends with code 1 when one has grown by more than the tolerance.
//!
//! Run: `make bench-instructions`. `UPDATE_INSTRUCTIONS=1` writes the counts down as expected: in a commit that says why.
//!
//! This program starts itself under `valgrind --tool=callgrind`, once with few calls and once with more, so that what the
//! start costs falls out of the difference.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

mod functions;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use functions::FUNCTIONS;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// By how much a count may be off, in percent: hashes are keyed anew in each process, and another patch of the compiler
/// moves some instructions about.
const TOLERANCE: f64 = 5.0;
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/expected.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, name, calls] = arguments.as_slice()
        && word == "call"
    {
        let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
        (function.call)(calls.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => {
            println!("{}, {}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH);
        }
        _ => {
            println!("valgrind is missing: install it (Debian: `apt-get install valgrind`) and try again");
            return ExitCode::FAILURE;
        }
    }
    let expected = expected();
    let (mut grown, mut counts) = (false, BTreeMap::new());
    for function in FUNCTIONS {
        let (few, many) = (function.calls, 3 * function.calls);
        let count = (instructions(function.name, many) - instructions(function.name, few)) / (many - few);
        let note = match expected.get(function.name) {
            None => "  not in expected.txt".to_owned(),
            Some(expected) => {
                let change = 100.0 * (count as f64 / *expected as f64 - 1.0);
                grown |= change > TOLERANCE;
                let word = match change {
                    change if change > TOLERANCE => "  GROWN",
                    change if change < -TOLERANCE => "  less: note it with UPDATE_INSTRUCTIONS=1",
                    _ => "",
                };
                format!("  expected {expected:>9}  {change:+5.1} %{word}")
            }
        };
        println!("{:<44} {count:>9}{note}", function.name);
        counts.insert(function.name, count);
    }
    if std::env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        let lines: String = FUNCTIONS.iter().map(|f| format!("{:>9} {}\n", counts[f.name], f.name)).collect();
        std::fs::write(EXPECTED, lines).unwrap();
        return ExitCode::SUCCESS;
    }
    if grown {
        println!(
            "more than {TOLERANCE} % above what is expected: find out why, or note it with UPDATE_INSTRUCTIONS=1"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn expected() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(EXPECTED).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(count, name)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Instructions of a process that makes so many calls.
fn instructions(name: &str, calls: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["call", name, &calls.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().filter_map(|line| line.split_once("Collected : ")).next();
    match count {
        Some((_, count)) if output.status.success() => count.trim().parse().unwrap(),
        _ => panic!("`{name}` was not counted: {said}"),
    }
}
