//! Sinks that fail, come back, move or disagree.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_start_that_must_be_recorded_and_cannot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/audit.jsonl");
    assert!(matches!(try_open(AuditMode::Required, &[]), Err(AuditError::NoSink)));
    assert!(matches!(try_open(AuditMode::Required, &[&missing]), Err(AuditError::Open { .. })));
    assert!(matches!(try_open(AuditMode::Required, &[Path::new("/dev/full")]), Err(AuditError::NotWritten)));
    // One that works is enough.
    let file = folder.path().join("audit.jsonl");
    let log = open(AuditMode::Required, &[&missing, &file]);
    assert_eq!((log.healthy(), log.failing_sinks()), (true, vec!["audit.jsonl".to_owned()]));
}

#[test]
fn a_file_that_comes_late_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late/audit.jsonl");
    let log = open(AuditMode::BestEffort, &[&late]);
    log.record(entry("one")).unwrap();
    assert!(!log.healthy());
    fs::create_dir(folder.path().join("late")).unwrap();
    eventually(|| log.healthy());
    log.record(entry("two")).unwrap();
    log.close();
    assert_eq!(
        gaps(&late),
        ["missed 2 (seq 1 to 2); unreadable lines 0; refused requests 0; sink audit.jsonl"]
    );
    assert_eq!(check(&late).records, 3);
}

#[test]
fn required_means_refused_while_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("audit.jsonl"), folder.path().join("link"));
    symlink(&file, &link).unwrap();
    let log = open(AuditMode::Required, &[&link]);
    log.record(entry("before")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink("/dev/full", &link).unwrap();
    for _ in 0..3 {
        assert!(matches!(log.record(entry("refused")), Err(AuditError::NotWritten)));
    }
    assert!(!log.healthy());
    assert_eq!(log.checkpoint().seq, 2);
    fs::remove_file(&link).unwrap();
    symlink(&file, &link).unwrap();
    eventually(|| log.record(entry("after")).is_ok());
    log.close();
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("\"refused\""));
    let found = gaps(&file);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("missed 0; unreadable lines 0; refused requests "), "{found:?}");
}

#[test]
fn one_dead_sink_of_two_stops_nobody_and_catches_up_with_a_gap() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad, link) =
            (folder.path().join("good.jsonl"), folder.path().join("bad.jsonl"), folder.path().join("link"));
        symlink(&bad, &link).unwrap();
        let log = open(mode, &[&link, &good]);
        log.record(entry("both")).unwrap();
        eventually(|| check(&bad).records == 2);
        fs::remove_file(&link).unwrap();
        symlink("/dev/full", &link).unwrap();
        for _ in 0..5 {
            log.record(entry("good only")).unwrap();
        }
        eventually(|| {
            log.record(entry("good only")).unwrap();
            log.failing_sinks() == ["link"]
        });
        assert!(log.healthy());
        fs::remove_file(&link).unwrap();
        symlink(&bad, &link).unwrap();
        eventually(|| {
            log.record(entry("both again")).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            log.failing_sinks().is_empty()
        });
        log.record(entry("both again")).unwrap();
        log.close();
        assert_eq!(check(&good).last, check(&bad).last);
        if mode == AuditMode::Required {
            let found = gaps(&bad);
            assert!(found.len() == 1 && found[0].contains("(seq 3 to "), "{found:?}");
        }
    }
}

#[test]
fn a_rotated_file_keeps_its_records_and_the_new_one_links_back() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let (file, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let log = open(mode, &[&file]);
        for n in 0..10 {
            log.record(entry(&format!("old {n}"))).unwrap();
        }
        eventually(|| check(&file).records == 11);
        fs::rename(&file, &old).unwrap();
        for n in 0..200 {
            log.record(entry(&format!("new {n}"))).unwrap();
        }
        // Those that came before the move was noticed went to the old file.
        eventually(|| {
            log.record(entry("more")).unwrap();
            fs::metadata(&file).is_ok_and(|meta| meta.len() > 0)
        });
        log.close();
        let first = check(&old);
        let second = check(&file);
        assert_eq!(second.gaps.len(), 1);
        let options =
            VerifyOptions { after: first.last, checkpoint: second.last, ..VerifyOptions::default() };
        verify_with(BufReader::new(fs::File::open(&file).unwrap()), &options).unwrap();
        let both = fs::read_to_string(&old).unwrap() + &fs::read_to_string(&file).unwrap();
        for n in 0..200 {
            assert!(both.contains(&format!("\"new {n}\"")), "{mode:?} {n}");
        }
    }
}

#[test]
fn an_emptied_file_shows_that_it_was() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        log.record(entry("one")).unwrap();
        eventually(|| check(&file).records == 2);
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
        log.record(entry("two")).unwrap();
        // The thread notices with the first line; the record after it carries the gap.
        eventually(|| {
            log.record(entry("three")).unwrap();
            fs::metadata(&file).unwrap().len() > 0
        });
        log.close();
        let found = gaps(&file);
        assert!(found.len() == 1 && found[0].contains("(seq 1 to "), "{found:?}");
    }
}

#[test]
fn files_that_disagree_go_on_together() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
        let log = open(mode, &[&a]);
        log.record(entry("a")).unwrap();
        log.close();
        drop(open(mode, &[&a, &b]));
        for n in 0..5 {
            let other = open(mode, &[&b]);
            other.record(entry(&format!("b {n}"))).unwrap();
        }
        drop(open(mode, &[&a, &b]));
        // Equally long and different.
        drop(open(mode, &[&a]));
        drop(open(mode, &[&b]));
        let log = open(mode, &[&a, &b]);
        log.record(entry("both")).unwrap();
        log.close();
        assert_eq!(check(&a).last, check(&b).last);
    }
}

#[test]
fn a_sink_that_hangs_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, file) = (folder.path().join("pipe"), folder.path().join("audit.jsonl"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let log = open(AuditMode::BestEffort, &[&pipe, &file]);
    let long = "x".repeat(1000);
    for _ in 0..500 {
        log.record(entry(&long)).unwrap();
    }
    // Half a megabyte does not fit a pipe that nobody reads.
    eventually(|| check(&file).records == 501);
    let reader = std::thread::spawn(move || {
        let pipe = BufReader::new(fs::File::open(pipe).unwrap());
        std::io::BufRead::lines(pipe).take(502).map(Result::unwrap).collect::<Vec<_>>()
    });
    log.close();
    let text = reader.join().unwrap().join("\n");
    assert_eq!(verify(text.as_bytes()).unwrap().records, 502);
}
