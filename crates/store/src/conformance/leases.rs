//! Who holds a run.

use super::*;

pub(super) async fn check<S: Subject>(subject: &S) {
    held_runs_are_left_alone(&subject.empty().await).await;
    unfinished_runs_change_hands(subject).await;
    in_portions(subject).await;
    leases_run_out(&subject.empty().await).await;
    leases_are_renewed(subject).await;
}

async fn held_runs_are_left_alone(store: &impl Store) {
    let (run, owner) = (record("p", 0), Uuid::now_v7());
    let id = run.run_id;
    let fence = created(store, run, owner).await;
    assert!(store.claim(owner, at(1), Timestamp::MAX, 10).await.unwrap().is_empty(), "it is its own already");
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
        assert!(
            store.claim(owner, at(1), Timestamp::MAX, 0).await.unwrap().is_empty(),
            "none were asked for"
        );
        let claimed = store.claim(owner, at(1), Timestamp::MAX, 100).await.unwrap();
        let seen: Vec<_> =
            claimed.iter().map(|(run, _)| (run.run_id, run.summary.status, run.last_seq)).collect();
        let expected: Vec<_> = unfinished.iter().map(|(id, _, status, seq)| (*id, *status, *seq)).collect();
        assert_eq!(seen, expected, "every unfinished run, oldest first, in round {round}");
        assert!(store.claim(owner, at(1), Timestamp::MAX, 100).await.unwrap().is_empty(), "each once");
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
        let some = store.claim(owner, at(1), Timestamp::MAX, 3).await.unwrap();
        assert_eq!(some.len(), portion);
        claimed.extend(some.into_iter().map(|(run, _)| run.run_id));
    }
    assert_eq!(claimed, expected, "oldest first");
}

fn claimed(runs: &[(RunRecord, Fence)]) -> Vec<RunId> {
    runs.iter().map(|(run, _)| run.run_id).collect()
}

/// Until its lease has run out an owner keeps its runs; then whoever claims first gets them, all of them, once.
async fn leases_run_out(store: &impl Store) {
    let [first, second, third] = [(); 3].map(|()| Uuid::now_v7());
    assert!(store.claim(first, at(0), at(100), 9).await.unwrap().is_empty());
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = record("p", 0);
        let id = run.run_id;
        runs.push((id, created(store, run, first).await));
    }
    let ids: Vec<_> = runs.iter().map(|(id, _)| *id).collect();
    assert!(store.claim(second, at(99), at(300), 9).await.unwrap().is_empty(), "it has not run out");
    appended(store, append(ids[0], runs[0].1, [1])).await;
    let some = store.claim(second, at(100), at(300), 1).await.unwrap();
    assert_eq!(claimed(&some), ids[..1], "the oldest");
    assert_eq!((some[0].0.last_seq, some[0].1.owner), (1, second));
    for (id, fence) in &runs {
        let late = refused(store, append(*id, *fence, [if *id == ids[0] { 2 } else { 1 }])).await;
        assert_eq!(late, WriteError::Fenced { run_id: *id }, "it has lost those that nobody took yet, too");
    }
    assert!(!store.renew(first, at(900)).await.unwrap(), "it is told so");
    assert!(store.claim(third, at(100), at(300), 0).await.unwrap().is_empty());
    let rest = store.claim(third, at(100), at(300), 9).await.unwrap();
    assert_eq!(claimed(&rest), ids[1..], "each once");
    appended(store, append(ids[0], some[0].1, [2])).await;
    appended(store, append(ids[1], rest[0].1, [1])).await;
    // Whoever lost its lease may begin anew, and gets what is free by then.
    let again = store.claim(first, at(300), at(400), 9).await.unwrap();
    assert_eq!(claimed(&again), ids, "both leases had run out");
    assert_eq!(refused(store, append(ids[0], runs[0].1, [3])).await, WriteError::Fenced { run_id: ids[0] });
    appended(store, append(ids[0], again[0].1, [3])).await;
    // Whoever lost its lease and has not noticed does not hold for ever what it creates.
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(store, run, second).await;
    appended(store, append(id, fence, [1])).await;
    assert_eq!(claimed(&store.claim(first, at(300), at(400), 9).await.unwrap()), [id]);
    assert_eq!(refused(store, append(id, fence, [2])).await, WriteError::Fenced { run_id: id });
}

/// A lease that is renewed lasts; an owner does not lose its own by claiming late, and everybody does when the store is
/// opened anew, if that voids leases.
async fn leases_are_renewed<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let (owner, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(!store.renew(owner, at(100)).await.unwrap(), "it has none");
    store.claim(owner, at(0), at(100), 9).await.unwrap();
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(&store, run, owner).await;
    assert!(store.renew(owner, at(200)).await.unwrap());
    assert!(store.claim(other, at(150), Timestamp::MAX, 9).await.unwrap().is_empty(), "it was renewed");
    assert!(store.claim(owner, at(200), at(300), 9).await.unwrap().is_empty(), "it holds them already");
    assert!(store.claim(other, at(250), Timestamp::MAX, 9).await.unwrap().is_empty());
    appended(&store, append(id, fence, [1])).await;
    assert!(store.renew(owner, at(250)).await.unwrap(), "it is given up early");
    assert_eq!(claimed(&store.claim(other, at(250), Timestamp::MAX, 9).await.unwrap()), [id]);
    let store = subject.restart(store).await;
    assert!(!store.renew(other, at(300)).await.unwrap(), "it is void");
    assert_eq!(claimed(&store.claim(owner, at(250), at(300), 9).await.unwrap()), [id]);
}
