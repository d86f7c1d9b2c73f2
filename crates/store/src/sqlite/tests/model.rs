//! Random work, done by the file and by memory alike.

use std::sync::Arc;

use serde_json::json;
use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::MemoryStore;
use crate::conformance::{append, ending, record};

/// A sequence of numbers that looks random, the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A run as the driver sees it.
struct Driven {
    id: RunId,
    fence: Fence,
    seq: u64,
}

/// How the process that has the file ends now and then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    AsItShould,
    ByPowerCut,
}

#[tokio::test]
async fn file_and_memory_agree() {
    for seed in 1..=8 {
        for (durability, ends) in [
            (Durability::Relaxed, Ends::AsItShould),
            (Durability::Strict, Ends::AsItShould),
            (Durability::Strict, Ends::ByPowerCut),
        ] {
            agree(Numbers(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)), durability, ends).await;
        }
    }
}

async fn agree(mut numbers: Numbers, durability: Durability, ends: Ends) {
    let mut directory = TempDir::new().unwrap();
    let mut file = open(&directory.path().join("t.db"), durability);
    let memory = MemoryStore::new();
    let mut owner = Uuid::now_v7();
    let mut driven: Vec<Driven> = Vec::new();
    for _ in 0..40 {
        if numbers.below(8) == 0 {
            if ends == Ends::ByPowerCut {
                directory = after_a_power_cut(&directory);
            }
            drop(file);
            file = open(&directory.path().join("t.db"), durability);
            memory.void_leases();
            owner = Uuid::now_v7();
            let limit = numbers.below(6);
            let left = file.claim(owner, Timestamp::now(), Timestamp::MAX, limit).await.unwrap();
            let right = memory.claim(owner, Timestamp::now(), Timestamp::MAX, limit).await.unwrap();
            assert_eq!(json!(left), json!(right));
            for (run, fence) in left {
                let driver = driven.iter_mut().find(|driven| driven.id == run.run_id).unwrap();
                (driver.fence, driver.seq) = (fence, run.last_seq);
            }
        }
        let writes: Vec<_> =
            (0..numbers.below(12)).map(|_| next_write(&mut numbers, owner, &mut driven)).collect();
        let left = file.write(writes.clone()).await.unwrap();
        let right = memory.write(writes).await.unwrap();
        assert_eq!(format!("{left:?}"), format!("{right:?}"));
    }
    let all = RunFilter { limit: 1000, ..RunFilter::default() };
    assert_eq!(json!(file.runs(all.clone()).await.unwrap()), json!(memory.runs(all).await.unwrap()));
    for Driven { id, .. } in driven {
        let (left, right) =
            (file.events(id, 0, 999).await.unwrap(), memory.events(id, 0, 999).await.unwrap());
        assert_eq!(json!(left), json!(right));
        assert_eq!(file.logs(id).await.unwrap(), memory.logs(id).await.unwrap());
    }
    if ends == Ends::ByPowerCut {
        // The last ones are kept for a while before they are written.
        return;
    }
    for name in ["a", "b"] {
        let id = name.parse().unwrap();
        assert_eq!(file.durations(&id, 99).await.unwrap(), memory.durations(&id, 99).await.unwrap());
    }
}

/// The files as they are now, in a folder of their own. What is committed while they are copied is in one of those that are
/// copied later.
fn after_a_power_cut(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["t.db-redo", "t.db-wal", "t.db"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn next_write(numbers: &mut Numbers, owner: Uuid, driven: &mut Vec<Driven>) -> RunWrite {
    if driven.is_empty() || numbers.below(3) == 0 {
        let mut run = record(["a", "b"][numbers.below(2)], 0);
        if numbers.below(2) == 0 {
            run.idempotency_key = Some(numbers.below(6).to_string());
        }
        driven.push(Driven { id: run.run_id, fence: Fence { owner, token: 1 }, seq: 0 });
        return RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
    }
    let place = numbers.below(driven.len());
    let driver = &mut driven[place];
    let (count, wrong) = (numbers.below(4) as u64, numbers.below(10) == 0);
    let first = driver.seq + 1 + u64::from(wrong);
    let mut append = append(driver.id, driver.fence, first..first + count);
    if !wrong {
        driver.seq += count;
    }
    if numbers.below(3) == 0 {
        let status = RunStatus::ALL[numbers.below(7)];
        append.summary = ending(driver.id, driver.fence, 1, status).summary;
        append.summary.result = (numbers.below(2) == 0).then(|| Arc::new(json!(numbers.below(99))));
        append.durations = vec![("t".into(), numbers.below(99) as u64), ("u".into(), 1)];
    }
    if numbers.below(4) == 0 {
        let text = numbers.below(99).to_string();
        append.logs = vec![StepLog { step_run: 1, step: "s".into(), attempt: 1, at: Timestamp::now(), text }];
    }
    if numbers.below(12) == 0 {
        append.fence.token += 1;
    }
    RunWrite::Append(Box::new(append))
}
