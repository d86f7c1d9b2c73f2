//! The audit log under what a test in the same process cannot have: a full disk and a sudden death.
//!
//! The test runs itself again as a child process, told by an environment variable what to do.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use taskiq_flow_security::audit::{
    AuditEntry, AuditEvent, AuditLogger, AuditMode, AuditOptions, AuditSink, Outcome, verify,
};

const FILE: &str = "AUDIT_TEST_FILE";

/// Far longer than the longest pause between two tries to write.
const AT_THE_LATEST: Duration = Duration::from_secs(60);

fn open(mode: AuditMode, file: &Path) -> AuditLogger {
    AuditLogger::open(AuditOptions {
        sinks: vec![AuditSink::File(file.to_path_buf())],
        mode,
        ..AuditOptions::default()
    })
    .unwrap()
}

fn entry(detail: String) -> AuditEntry {
    AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success).detail(detail)
}

/// This test binary again, running only `name`.
fn child(name: &str, before: &str, file: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before} exec \"$0\" --exact {name} --ignored --nocapture")])
        .arg(program)
        .env(FILE, file);
    command
}

/// What a file holds that a thread may be trying to write at this moment: half a line is there for as long as the try
/// takes, and must not be there until the next one.
fn between_tries(file: &Path) -> String {
    let texts = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(1));
        fs::read_to_string(file).unwrap()
    });
    texts.take(20).find(|text| text.ends_with('\n')).expect("half a line was left")
}

#[test]
#[ignore = "run by records_before_a_sudden_death_are_there"]
fn child_records_for_ever() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let log = open(AuditMode::Required, Path::new(&file));
    for n in 0u64.. {
        log.record(entry(format!("record {n}"))).unwrap();
        println!("recorded={}", log.checkpoint().seq);
    }
}

#[test]
fn records_before_a_sudden_death_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    for round in 0..3 {
        let mut running = child("child_records_for_ever", "", &file).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(running.stdout.take().unwrap()).lines();
        let mut last = 0;
        let enough = 40 + 31 * round;
        let mut seen = 0;
        while seen < enough {
            let line = told.next().expect("the child ended by itself").unwrap();
            if let Some(seq) = line.strip_prefix("recorded=") {
                last = seq.parse().unwrap();
                seen += 1;
            }
        }
        running.kill().unwrap();
        running.wait().unwrap();
        // A power cut in the middle of a line, too.
        if round == 1 {
            let len = fs::metadata(&file).unwrap().len();
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len - 30).unwrap();
            last = 0;
        }
        open(AuditMode::Required, &file).close();
        let report = verify(BufReader::new(fs::File::open(&file).unwrap())).unwrap();
        assert!(report.records >= last + 2, "{report:?}");
        assert_eq!(report.gaps.len(), usize::from(round >= 1));
    }
}

#[test]
#[ignore = "run by a_full_disk_refuses_and_leaves_no_half_line"]
fn child_fills_the_disk() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let file = Path::new(&file);
    for mode in [AuditMode::Required, AuditMode::BestEffort] {
        let log = open(mode, file);
        let mut refused = 0;
        let until = Instant::now() + AT_THE_LATEST;
        for n in 0.. {
            match log.record(entry(format!("{n} {}", "x".repeat(900)))) {
                Ok(_) => {}
                Err(_) => refused += 1,
            }
            // So that the sink hears of the full disk before everything was recorded.
            log.flush();
            if (mode == AuditMode::Required && refused == 3)
                || (mode == AuditMode::BestEffort && n > 20 && !log.failing_sinks().is_empty())
            {
                break;
            }
            assert!(Instant::now() < until, "the disk never filled");
        }
        let text = between_tries(file);
        verify(text.as_bytes()).unwrap();
        let room = match mode {
            // For the other turn to fill.
            AuditMode::Required => format!("--fsize={}:unlimited", text.len() + 60_000),
            // Everything that is recorded until the sink is tried again waits for it.
            AuditMode::BestEffort => "--fsize=unlimited:unlimited".to_owned(),
        };
        let pid = std::process::id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, &room]).status().unwrap().success());
        let until = Instant::now() + AT_THE_LATEST;
        while !(log.record(entry("there is room".to_owned())).is_ok() && log.failing_sinks().is_empty()) {
            assert!(Instant::now() < until, "the log did not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
        log.close();
        let report = verify(BufReader::new(fs::File::open(file).unwrap())).unwrap();
        assert_eq!(report.gaps.len(), 1, "{:?}", report.gaps);
        if mode == AuditMode::Required {
            // Three, and those that came before the sink was tried again.
            let told = report.gaps[0].detail.split("; ").nth(2).unwrap();
            let told: u32 = told.strip_prefix("refused requests ").unwrap().parse().unwrap();
            assert!(told >= 3);
        } else {
            // What waited for room is there: nothing was missed.
            assert!(report.records > 20);
        }
    }
    println!("the child passed");
}

#[test]
fn a_full_disk_refuses_and_leaves_no_half_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    // A file size limit writes half a line and then fails, as a full disk does. The signal is ignored.
    let before = "trap '' XFSZ; ulimit -S -f 30;";
    let output = child("child_fills_the_disk", before, &file).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("the child passed"), "{text}");
}
