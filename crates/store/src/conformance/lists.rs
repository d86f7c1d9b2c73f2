//! Lists of runs, durations, and the removal of old runs.

use super::catalog::definition;
use super::*;
use crate::{RunFilter, StepLog};

pub(super) async fn check<S: Subject>(subject: &S) {
    filters(subject).await;
    within_a_time(subject).await;
    newest_of_each(&subject.empty().await).await;
    statistics(&subject.empty().await).await;
    durations(subject).await;
    pruning(&subject.empty().await).await;
    pruning_by_number(&subject.empty().await).await;
    pruned_versions(&subject.empty().await).await;
}

async fn listed(store: &impl Store, filter: RunFilter) -> Vec<RunId> {
    ids(&store.runs(filter).await.unwrap())
}

/// Every combination of filters gives what filtering by hand gives, in pages of every size, of runs that have just begun or
/// ended as of those found again.
async fn filters<S: Subject>(subject: &S) {
    for restarts in [false, true] {
        filtered(subject, restarts).await;
    }
}

async fn filtered<S: Subject>(subject: &S, restarts: bool) {
    let store = subject.empty().await;
    let mut all: Vec<RunRecord> = Vec::new();
    for (number, status) in RunStatus::ALL.into_iter().cycle().take(63).enumerate() {
        let run = record(["a", "b", "c"][number % 3], 0);
        let id = run.run_id;
        let fence = created(&store, run, Uuid::now_v7()).await;
        if status != RunStatus::Queued {
            // By way of another state, so that it must leave that one's list.
            appended(&store, append(id, fence, [1])).await;
            appended(&store, ending(id, fence, 2, status)).await;
        }
        all.push(store.run(id).await.unwrap().unwrap());
    }
    all.reverse();
    let store = if restarts { subject.restart(store).await } else { store };
    let of = |names: &[&str]| Some(names.iter().copied().map(pipeline).collect::<Vec<_>>());
    let chosen =
        [None, of(&[]), of(&["a"]), of(&["c", "a", "c", "nobody"]), of(&["nobody"]), of(&["a", "b", "c"])];
    let statuses: Vec<_> = RunStatus::ALL.into_iter().map(Some).chain([None]).collect();
    for pipelines in &chosen {
        for status in statuses.clone() {
            let passes = |run: &&RunRecord| {
                pipelines.as_ref().is_none_or(|ids| ids.contains(&run.pipeline_id))
                    && status.is_none_or(|status| status == run.summary.status)
            };
            let expected: Vec<_> = all.iter().filter(passes).map(RunRow::from).collect();
            let filter =
                RunFilter { pipelines: pipelines.clone(), status, limit: 100, ..RunFilter::default() };
            same(&store.runs(filter.clone()).await.unwrap(), &expected, &format!("{filter:?}"));
            for limit in [1, 3] {
                let mut seen = Vec::new();
                loop {
                    let page = RunFilter { limit, before: seen.last().copied(), ..filter.clone() };
                    let page = listed(&store, page).await;
                    assert!(page.len() <= limit);
                    if page.is_empty() {
                        break;
                    }
                    seen.extend(page);
                }
                assert_eq!(seen, ids(&expected), "{filter:?} in pages of {limit}");
            }
            assert!(listed(&store, RunFilter { limit: 0, ..filter }).await.is_empty());
        }
    }
    let before = Some(RunId::from_bytes([0; 16]));
    assert!(listed(&store, RunFilter { before, limit: 9, ..RunFilter::default() }).await.is_empty());
    let all_of_them = RunFilter { limit: usize::MAX, ..RunFilter::default() };
    assert_eq!(listed(&store, all_of_them).await.len(), 63);
}

/// With every other filter, and in pages.
async fn within_a_time<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let mut all = Vec::new();
    for number in 0..30_i64 {
        // Three ids of each millisecond.
        let millis = (at(number / 3).as_millis() as u64).to_be_bytes();
        let mut id = *Uuid::now_v7().as_bytes();
        id[..6].copy_from_slice(&millis[2..]);
        id[15] = number as u8;
        let mut run = record(["a", "b"][number as usize % 2], number / 3);
        run.run_id = RunId::from_bytes(id);
        let status = [RunStatus::Completed, RunStatus::Failed][usize::from(number % 5 == 0)];
        finished(&store, run.clone(), status).await;
        all.push((run.run_id, run.created_at, run.pipeline_id, status));
    }
    all.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
    let store = subject.restart(store).await;
    for (since, until) in
        [(None, Some(4)), (Some(4), None), (Some(3), Some(7)), (Some(7), Some(3)), (Some(5), Some(5))]
    {
        let (since, until) = (since.map(at), until.map(at));
        for name in [None, Some("a")] {
            for status in [None, Some(RunStatus::Failed)] {
                let pipelines = name.map(|name| vec![pipeline(name)]);
                let passing = all.iter().filter(|(_, time, of, ended)| {
                    since.is_none_or(|since| *time >= since)
                        && until.is_none_or(|until| *time < until)
                        && pipelines.as_ref().is_none_or(|ids| ids.contains(of))
                        && status.is_none_or(|status| status == *ended)
                });
                let expected: Vec<RunId> = passing.map(|(id, ..)| *id).collect();
                let filter = RunFilter { pipelines, status, since, until, before: None, limit: 100 };
                assert_eq!(listed(&store, filter.clone()).await, expected, "{filter:?}");
                let mut seen: Vec<RunId> = Vec::new();
                loop {
                    let before = seen.last().copied();
                    let page = listed(&store, RunFilter { before, limit: 2, ..filter.clone() }).await;
                    if page.is_empty() {
                        break;
                    }
                    seen.extend(page);
                }
                assert_eq!(seen, expected, "{filter:?} in pages");
            }
        }
    }
}

async fn newest_of_each(store: &impl Store) {
    let mut newest = Vec::new();
    for name in ["a", "b", "a", "c"] {
        newest.push(finished(store, record(name, 0), RunStatus::Completed).await);
    }
    let asked = ["b", "nobody", "a"].map(pipeline);
    assert_eq!(
        ids(&store.last_runs(&asked).await.unwrap()),
        [newest[1], newest[2]],
        "in the order asked for"
    );
    assert!(store.last_runs(&[]).await.unwrap().is_empty());
}

async fn durations<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let measured = |run: &RunRecord, owner, durations: Vec<(Arc<str>, u64)>| {
        let fence = Fence { owner, token: 1 };
        let last = ending(run.run_id, fence, 1, RunStatus::Completed);
        RunWrite::Append(Box::new(Append { durations, ..last }))
    };
    let owner = Uuid::now_v7();
    for number in 0..130_u64 {
        let run = record("p", 0);
        let mut durations = vec![("slow".into(), number)];
        if number % 50 == 0 {
            durations.push(("rare".into(), number));
        }
        let end = measured(&run, owner, durations);
        let answers = store
            .write(vec![RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None }, end])
            .await
            .unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    let run = record("other", 0);
    let end = measured(&run, owner, vec![("slow".into(), 7)]);
    store
        .write(vec![RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None }, end])
        .await
        .unwrap();
    let store = subject.restart(store).await;
    let sorted = |mut all: Vec<(String, Vec<u64>)>| {
        all.iter_mut().for_each(|(_, millis)| millis.sort_unstable());
        all
    };
    let some = sorted(store.durations(&pipeline("p"), 2).await.unwrap());
    assert_eq!(
        some,
        [("rare".to_owned(), vec![50, 100]), ("slow".to_owned(), vec![128, 129])],
        "by task name"
    );
    let all = sorted(store.durations(&pipeline("p"), 1000).await.unwrap());
    assert_eq!(all[0].1, [0, 50, 100]);
    assert!(all[1].1.len() >= 50 && all[1].1.len() < 130, "many, but not without end: {}", all[1].1.len());
    assert_eq!(store.durations(&pipeline("other"), 9).await.unwrap(), [("slow".to_owned(), vec![7])]);
    assert!(store.durations(&pipeline("nobody"), 9).await.unwrap().is_empty());
}

async fn pruning(store: &impl Store) {
    let owner = Uuid::now_v7();
    let mut ended = Vec::new();
    for millis in 0..100_i64 {
        let mut run = record("p", 0);
        run.idempotency_key = Some(format!("k{millis}"));
        let id = run.run_id;
        let fence = created(store, run, owner).await;
        let mut last = ending(id, fence, 1, RunStatus::ALL[3 + millis as usize % 4]);
        last.summary.finished_at = Some(at(millis));
        last.logs =
            vec![StepLog { step_run: 0, step: "s".into(), attempt: 1, at: at(0), text: "said".to_owned() }];
        appended(store, last).await;
        ended.push(id);
    }
    let live = record("p", 0);
    let live_id = live.run_id;
    let fence = created(store, live, owner).await;
    assert_eq!(store.prune(Retention::before(at(0)), 1000).await.unwrap(), 0, "ended at, not before");
    assert_eq!(store.prune(Retention::before(at(90)), 0).await.unwrap(), 0);
    assert_eq!(store.prune(Retention::before(at(90)), 5).await.unwrap(), 5, "no more than asked for");
    assert_eq!(store.prune(Retention::before(at(90)), 80).await.unwrap(), 80);
    assert_eq!(store.prune(Retention::before(at(90)), 1000).await.unwrap(), 5, "the rest");
    assert_eq!(store.prune(Retention::before(at(90)), 1000).await.unwrap(), 0);
    for (millis, id) in ended.iter().enumerate() {
        let there = millis >= 90;
        assert_eq!(store.run(*id).await.unwrap().is_some(), there, "{millis}");
        assert_eq!(store.events(*id, 0, 9).await.unwrap().len(), usize::from(there));
        assert_eq!(store.logs(*id).await.unwrap().len(), usize::from(there));
        let left = refused(store, append(*id, Fence { token: 9, ..fence }, [2])).await;
        let expected =
            if there { WriteError::Fenced { run_id: *id } } else { WriteError::NotFound { run_id: *id } };
        assert_eq!(left, expected, "{millis}");
    }
    let everything = RunFilter { limit: 1000, ..RunFilter::default() };
    assert_eq!(listed(store, everything.clone()).await.len(), 11);
    let of_p = RunFilter { pipelines: Some(vec![pipeline("p")]), ..everything };
    assert_eq!(listed(store, of_p).await.len(), 11);
    appended(store, append(live_id, fence, [1])).await;
    assert_eq!(store.prune(Retention::before(at(1_000_000)), 1000).await.unwrap(), 10, "never a live run");
    let mut again = record("p", 0);
    again.idempotency_key = Some("k0".to_owned());
    created(store, again, owner).await;
}

/// What runs came to, over every time and with every bound, is what counting by hand gives.
async fn statistics(store: &impl Store) {
    let owner = Uuid::now_v7();
    let id_at = |millis: i64| {
        let mut bytes = *RunId::new().as_bytes();
        bytes[..6].copy_from_slice(&at(millis).as_millis().to_be_bytes()[2..]);
        RunId::from_bytes(bytes)
    };
    let mut all = Vec::new();
    for (number, status) in RunStatus::ALL.into_iter().cycle().take(84).enumerate() {
        let number = number as i64;
        let run =
            RunRecord { run_id: id_at(number * 10), ..record(["p", "q"][(number % 5 == 0) as usize], 0) };
        let (id, of) = (run.run_id, run.pipeline_id.clone());
        let fence = created(store, run, owner).await;
        if status != RunStatus::Queued {
            let mut append = ending(id, fence, 1, status);
            append.summary.started_at = Some(at(1000));
            // One that never started.
            if number == 24 {
                append.summary.started_at = None;
            }
            append.summary.finished_at = status.is_terminal().then(|| at(1000 + number));
            appended(store, append).await;
        }
        all.push((number, of, status));
    }
    for of in ["p", "q", "nothing"].map(pipeline) {
        for (since, until) in
            [(None, None), (Some(100), None), (None, Some(300)), (Some(55), Some(205)), (Some(9), Some(9))]
        {
            let within = |number: i64| {
                since.is_none_or(|since| number * 10 >= since)
                    && until.is_none_or(|until| number * 10 < until)
            };
            let mine: Vec<_> = all.iter().filter(|run| run.1 == of && within(run.0)).collect();
            for most in [1, 3, 7, 1000] {
                let found = store.statistics(&of, since.map(at), until.map(at), most).await.unwrap();
                let mut ended: Vec<i64> =
                    mine.iter().filter(|run| run.2.is_terminal()).map(|run| run.0).rev().collect();
                let cut = ended.len() > most;
                ended.truncate(most);
                let first = if !cut { i64::MIN } else { *ended.last().unwrap_or(&i64::MAX) };
                let what = format!("{of} from {since:?} to {until:?}, {most} at most: {found:?}");
                assert_eq!(found.counted_since, cut.then(|| at(first * 10)), "{what}");
                let counted =
                    |status| mine.iter().filter(|run| run.2 == status && run.0 >= first).count() as u64;
                let counts: Vec<_> = RunStatus::ALL
                    .into_iter()
                    .map(|status| (status, counted(status)))
                    .filter(|(_, count)| *count > 0)
                    .collect();
                assert_eq!(found.counts, counts, "{what}");
                let took: Vec<u64> = mine
                    .iter()
                    .filter(|run| run.2 == RunStatus::Completed && run.0 >= first && run.0 != 24)
                    .map(|run| run.0 as u64)
                    .collect();
                assert_eq!(found.durations, took, "{what}");
            }
        }
    }
}

/// Of runs that have ended so many are kept, those that ended last, whatever else is asked for.
async fn pruning_by_number(store: &impl Store) {
    let owner = Uuid::now_v7();
    let mut ended = Vec::new();
    for number in 0..10_i64 {
        let run = record("p", 0);
        let id = run.run_id;
        let fence = created(store, run, owner).await;
        let mut last = ending(id, fence, 1, RunStatus::Completed);
        // The later half ends at one time.
        last.summary.finished_at = Some(at(number.min(5)));
        appended(store, last).await;
        ended.push(id);
    }
    created(store, record("p", 0), owner).await;
    let left = async || {
        let mut there = Vec::new();
        for id in &ended {
            there.push(store.run(*id).await.unwrap().is_some());
        }
        there.iter().filter(|there| **there).count()
    };
    assert_eq!(store.prune(Retention::default(), 100).await.unwrap(), 0, "nothing is to go");
    assert_eq!(store.prune(Retention::keep(10), 100).await.unwrap(), 0);
    assert_eq!(store.prune(Retention::keep(8), 1).await.unwrap(), 1);
    assert_eq!(store.prune(Retention::keep(8), 100).await.unwrap(), 1);
    assert!(store.run(ended[1]).await.unwrap().is_none(), "the ones that ended first");
    assert_eq!(left().await, 8);
    let both = Retention { ended_before: Some(at(3)), keep: Some(100) };
    assert_eq!(store.prune(both, 100).await.unwrap(), 1, "by age");
    let both = Retention { ended_before: Some(at(3)), keep: Some(2) };
    assert_eq!(store.prune(both, 100).await.unwrap(), 5, "by number, of those that ended together too");
    assert_eq!(left().await, 2);
    assert_eq!(store.prune(Retention::keep(0), 100).await.unwrap(), 2);
    let everything = RunFilter { limit: 100, ..RunFilter::default() };
    assert_eq!(listed(store, everything).await.len(), 1, "never a live run");
}

/// Versions outlive the runs that follow them, and the current one always stays.
async fn pruned_versions(store: &impl Store) {
    let id = pipeline("p");
    for version in 1..=2 {
        store.put_pipeline(definition("p", version)).await.unwrap();
        let run = RunRecord { version, ..record("p", 0) };
        finished(store, run, RunStatus::Completed).await;
    }
    let run = RunRecord { version: 1, ..record("p", 0) };
    let live = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    assert_eq!(store.prune(Retention::before(at(3)), 10).await.unwrap(), 2);
    assert!(store.pipeline(&id, 1).await.unwrap().is_some(), "a live run follows it");
    assert!(store.pipeline(&id, 2).await.unwrap().is_some(), "it is the current one");
    appended(store, ending(live, fence, 1, RunStatus::Completed)).await;
    assert_eq!(store.prune(Retention::before(at(3)), 10).await.unwrap(), 1);
    assert!(store.pipeline(&id, 2).await.unwrap().is_some(), "it is the current one");
    assert_eq!(store.pipeline_version(&id).await.unwrap(), 2);
    assert_eq!(store.pipelines().await.unwrap().len(), 1);
}
