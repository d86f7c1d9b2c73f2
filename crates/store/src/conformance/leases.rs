//! Who holds a run.

use super::*;

pub(super) async fn check<S: Subject>(subject: &S) {
    held_runs_are_left_alone(&subject.empty().await).await;
    unfinished_runs_change_hands(subject).await;
    in_portions(subject).await;
}

async fn held_runs_are_left_alone(store: &impl Store) {
    let (run, owner) = (record("p", 0), Uuid::now_v7());
    let id = run.run_id;
    let fence = created(store, run, owner).await;
    assert!(store.claim(owner, at(1), 10).await.unwrap().is_empty(), "it is its own already");
    appended(store, append(id, fence, [1])).await;
}

/// After a restart, whoever claims gets every unfinished run, once; the old driver is shut out.
async fn unfinished_runs_change_hands<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let old = Uuid::now_v7();
    let mut unfinished = Vec::new();
    for status in RunStatus::ALL {
        let run = record("p", 0);
        let id = run.run_id;
        let fence = created(&store, run, old).await;
        if status != RunStatus::Queued {
            appended(&store, ending(id, fence, 1, status)).await;
        }
        if !status.is_terminal() {
            unfinished.push((id, fence, status, u64::from(status != RunStatus::Queued)));
        }
    }
    let mut store = subject.restart(store).await;
    for round in 1..=3 {
        let owner = Uuid::now_v7();
        assert!(store.claim(owner, at(1), 0).await.unwrap().is_empty(), "none were asked for");
        let claimed = store.claim(owner, at(1), 100).await.unwrap();
        let seen: Vec<_> =
            claimed.iter().map(|(run, _)| (run.run_id, run.summary.status, run.last_seq)).collect();
        let expected: Vec<_> = unfinished.iter().map(|(id, _, status, seq)| (*id, *status, *seq)).collect();
        assert_eq!(seen, expected, "every unfinished run, oldest first, in round {round}");
        assert!(store.claim(owner, at(1), 100).await.unwrap().is_empty(), "each once");
        for ((_, fence), (id, old_fence, _, seq)) in claimed.iter().zip(&mut unfinished) {
            assert_eq!(fence.owner, owner);
            assert!(fence.token > old_fence.token, "the token grows");
            assert_eq!(
                refused(&store, append(*id, *old_fence, [*seq + 1])).await,
                WriteError::Fenced { run_id: *id }
            );
            let stale = Fence { token: old_fence.token, ..*fence };
            assert_eq!(
                refused(&store, append(*id, stale, [*seq + 1])).await,
                WriteError::Fenced { run_id: *id }
            );
            let status = store.run(*id).await.unwrap().unwrap().summary.status;
            appended(&store, ending(*id, *fence, *seq + 1, status)).await;
            *seq += 1;
            *old_fence = *fence;
        }
        store = subject.restart(store).await;
    }
}

async fn in_portions<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        let run = record("p", 0);
        expected.push(run.run_id);
        created(&store, run, Uuid::now_v7()).await;
    }
    let store = subject.restart(store).await;
    let owner = Uuid::now_v7();
    let mut claimed = Vec::new();
    for portion in [3, 3, 1, 0] {
        let some = store.claim(owner, at(1), 3).await.unwrap();
        assert_eq!(some.len(), portion);
        claimed.extend(some.into_iter().map(|(run, _)| run.run_id));
    }
    assert_eq!(claimed, expected, "oldest first");
}
