//! What is kept beside runs: firings, dead letters, cached values, deliveries.

use super::*;
use crate::{
    CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Firing, FiringFilter, FiringOutcome,
};

pub(super) async fn check<S: Subject>(subject: &S) {
    a_firing_starts_one_run(subject).await;
    firings_are_listed_and_bounded(subject).await;
    dead_letters_come_with_their_events(subject).await;
    a_dead_letter_is_replayed_once(&subject.empty().await).await;
    cached_values(subject).await;
    deliveries(subject).await;
    deliveries_given_up_are_bounded(&subject.empty().await).await;
    deliveries_given_up_are_shared_out(&subject.empty().await).await;
    what_is_refused_leaves_nothing_beside(&subject.empty().await).await;
}

fn firing(schedule: &str, due: i64, outcome: FiringOutcome) -> Firing {
    Firing {
        place: 0,
        schedule: schedule.to_owned(),
        due: at(due),
        at: at(due + 1),
        outcome,
        run_id: None,
        reason: (outcome != FiringOutcome::Started).then(|| "a \u{0} reason".to_owned()),
        backfill: due % 2 == 1,
    }
}

/// A run that a firing starts, and the id that it has.
fn fires(due: i64) -> (RunId, RunWrite) {
    let run = record("p", 0);
    let firing = Some(Box::new(firing("s", due, FiringOutcome::Started)));
    (run.run_id, RunWrite::Create { run: Box::new(run), owner: Uuid::now_v7(), firing, replays: None })
}

fn of_schedule(schedule: &str) -> FiringFilter {
    FiringFilter { schedule: Some(schedule.to_owned()), limit: 100, ..FiringFilter::default() }
}

async fn a_firing_starts_one_run<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let (first, write) = fires(5);
    assert!(matches!(write_one(&store, write).await, Ok(Written::Created(_))));
    let (second, write) = fires(5);
    let answer = write_one(&store, write).await;
    assert!(matches!(&answer, Ok(Written::Exists(run)) if run.run_id == first), "{answer:?}");
    let store = subject.restart(store).await;
    let (third, write) = fires(5);
    let answer = write_one(&store, write).await;
    assert!(
        matches!(&answer, Ok(Written::Exists(run)) if run.run_id == first),
        "after a restart: {answer:?}"
    );
    for id in [second, third] {
        assert!(store.run(id).await.unwrap().is_none(), "nothing was written");
    }
    assert!(!store.note_firing(firing("s", 5, FiringOutcome::Skipped)).await.unwrap(), "it has had its run");

    // Two in one call, and one that was skipped before.
    assert!(store.note_firing(firing("s", 7, FiringOutcome::Missed)).await.unwrap());
    assert!(store.note_firing(firing("s", 7, FiringOutcome::Skipped)).await.unwrap(), "replaced");
    let ((id, write), (_, again)) = (fires(7), fires(7));
    let answers = store.write(vec![write, again]).await.unwrap();
    assert!(matches!(answers[0], Ok(Written::Created(_))), "{answers:?}");
    assert!(matches!(&answers[1], Ok(Written::Exists(run)) if run.run_id == id), "{answers:?}");
    let mut expected = vec![firing("s", 7, FiringOutcome::Started), firing("s", 5, FiringOutcome::Started)];
    (expected[0].run_id, expected[1].run_id) = (Some(id), Some(first));
    let mut listed = store.firings(of_schedule("s")).await.unwrap();
    assert!(listed[0].place > listed[1].place);
    listed.iter_mut().for_each(|firing| firing.place = 0);
    assert_eq!(listed, expected);

    // The run goes, what it was started for does not come back.
    let fence = store.claim(Uuid::now_v7(), at(1), Timestamp::MAX, 100).await.unwrap();
    let fence = fence.into_iter().find(|(run, _)| run.run_id == first).unwrap().1;
    appended(&store, ending(first, fence, 1, RunStatus::Completed)).await;
    assert_eq!(store.prune(Retention::before(at(100)), 100).await.unwrap(), 1);
    let (_, write) = fires(5);
    let refused = write_one(&store, write).await.unwrap_err();
    assert_eq!(refused, WriteError::Fired { schedule: "s".to_owned(), due: at(5) });
}

async fn firings_are_listed_and_bounded<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let record = crate::ScheduleRecord {
        id: "s".to_owned(),
        pipeline_id: pipeline("p"),
        timing: taskiq_flow_core::definition::Timing::At(at(3)),
        timezone: "UTC".to_owned(),
        parameters: Map::new(),
        enabled: true,
        rules: taskiq_flow_core::definition::ScheduleRules::default(),
        created_at: at(1),
        next_fire_at: None,
        last_fire_at: None,
    };
    store.put_schedule(record).await.unwrap();
    for due in 0..40 {
        let schedule = if due % 4 == 0 { "other" } else { "s" };
        assert!(store.note_firing(firing(schedule, due, FiringOutcome::Failed)).await.unwrap());
    }
    let store = subject.restart(store).await;
    let dues = async |filter: FiringFilter| {
        let listed = store.firings(filter).await.unwrap();
        listed.iter().map(|firing| firing.due.as_millis() - at(0).as_millis()).collect::<Vec<_>>()
    };
    let of_s: Vec<i64> = (0..40).rev().filter(|due| due % 4 != 0).collect();
    assert_eq!(dues(of_schedule("s")).await, of_s);
    let all = FiringFilter { limit: 100, ..FiringFilter::default() };
    assert_eq!(dues(all.clone()).await, (0..40).rev().collect::<Vec<_>>());
    for filter in [of_schedule("s"), all] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = store.firings(FiringFilter { limit: 7, before, ..filter.clone() }).await.unwrap();
            before = page.last().map(|firing| firing.place);
            seen.extend(page);
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, store.firings(filter).await.unwrap(), "in pages");
    }
    let part = FiringFilter { since: Some(at(10)), until: Some(at(13)), ..of_schedule("s") };
    assert_eq!(dues(part).await, [11, 10]);
    assert!(dues(of_schedule("nobody")).await.is_empty());
    assert!(dues(FiringFilter { limit: 0, ..of_schedule("s") }).await.is_empty());

    for due in 100..1200 {
        assert!(store.note_firing(firing("s", due, FiringOutcome::Skipped)).await.unwrap());
    }
    let kept = dues(FiringFilter { limit: usize::MAX, ..of_schedule("s") }).await;
    assert!(kept.len() >= 100 && kept.len() < 1100, "some hundred: {}", kept.len());
    assert_eq!((kept[0], kept.last()), (1199, Some(&(1200 - kept.len() as i64))), "the newest");
    assert_eq!(dues(of_schedule("other")).await.len(), 10, "each schedule by itself");
    assert!(store.delete_schedule("s").await.unwrap());
    assert!(dues(of_schedule("s")).await.is_empty(), "they go with their schedule");
    assert_eq!(dues(of_schedule("other")).await.len(), 10);
}

fn letter(run_id: RunId, pipeline_id: &str, step_run: u32) -> DeadLetter {
    DeadLetter {
        place: 0,
        run_id,
        step_run,
        pipeline_id: pipeline(pipeline_id),
        step: "square[2]".into(),
        task: "square".into(),
        attempt: 3,
        error: "no\n\u{0}".into(),
        inputs: Arc::new(odd_values()),
        at: at(4),
        replayed_by: None,
    }
}

fn with_letters(run_id: RunId, fence: Fence, seq: u64, letters: Vec<DeadLetter>) -> Append {
    let beside = Beside { dead_letters: letters, ..Beside::default() };
    Append { beside, ..append(run_id, fence, [seq]) }
}

async fn dead_letters_come_with_their_events<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let mut expected = Vec::new();
    let mut runs = Vec::new();
    for name in ["a", "b", "a"] {
        let run = record(name, 0);
        let id = run.run_id;
        let fence = created(&store, run, Uuid::now_v7()).await;
        appended(&store, with_letters(id, fence, 1, vec![letter(id, name, 1), letter(id, name, u32::MAX)]))
            .await;
        appended(&store, with_letters(id, fence, 2, vec![letter(id, name, 7)])).await;
        expected.extend([letter(id, name, 1), letter(id, name, u32::MAX), letter(id, name, 7)]);
        runs.push((id, fence));
    }
    let (id, fence) = runs[0];
    let late = with_letters(id, Fence { token: 9, ..fence }, 3, vec![letter(id, "a", 99)]);
    assert_eq!(refused(&store, late).await, WriteError::Fenced { run_id: id });
    expected.reverse();
    let store = subject.restart(store).await;
    let listed = async |filter: DeadLetterFilter| {
        let mut listed = store.dead_letters(filter).await.unwrap();
        assert!(listed.is_sorted_by_key(|letter| std::cmp::Reverse(letter.place)));
        listed.iter_mut().for_each(|letter| letter.place = 0);
        listed
    };
    let all = DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() };
    assert_eq!(listed(all.clone()).await, expected);
    let of = |names: &[&str]| DeadLetterFilter {
        pipelines: Some(names.iter().copied().map(pipeline).collect()),
        ..all.clone()
    };
    for (names, count) in [(&["a"][..], 6), (&["b"], 3), (&["b", "a", "a", "c"], 9), (&["c"], 0), (&[], 0)] {
        let filter = of(names);
        let passing = expected.iter().filter(|letter| names.contains(&letter.pipeline_id.as_str())).cloned();
        assert_eq!(listed(filter.clone()).await, passing.collect::<Vec<_>>());
        let (mut seen, mut before) = (0, None);
        loop {
            let page =
                store.dead_letters(DeadLetterFilter { limit: 2, before, ..filter.clone() }).await.unwrap();
            before = page.last().map(|letter| letter.place);
            seen += page.len();
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, count, "{names:?} in pages");
    }
    let mut one = store.dead_letter(id, u32::MAX).await.unwrap().unwrap();
    one.place = 0;
    assert_eq!(one, letter(id, "a", u32::MAX));
    assert!(store.dead_letter(id, 99).await.unwrap().is_none(), "its events were refused");
    assert!(store.drop_dead_letter(id, 7).await.unwrap());
    assert!(!store.drop_dead_letter(id, 7).await.unwrap());
    assert_eq!(listed(of(&["a"])).await.len(), 5);

    // They go with their run.
    let claimed = store.claim(Uuid::now_v7(), at(1), Timestamp::MAX, 100).await.unwrap();
    let fence = claimed.iter().find(|(run, _)| run.run_id == id).unwrap().1;
    appended(&store, ending(id, fence, 3, RunStatus::Failed)).await;
    assert_eq!(store.prune(Retention::before(at(100)), 100).await.unwrap(), 1);
    assert_eq!((listed(of(&["a"])).await.len(), listed(of(&["b"])).await.len()), (3, 3));
    assert!(store.dead_letter(id, 1).await.unwrap().is_none());
}

async fn a_dead_letter_is_replayed_once(store: &impl Store) {
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    appended(store, with_letters(id, fence, 1, vec![letter(id, "p", 1), letter(id, "p", 2)])).await;
    let replay = |step_run| {
        let run = record("p", 0);
        let replays = Some((id, step_run));
        (run.run_id, RunWrite::Create { run: Box::new(run), owner: Uuid::now_v7(), firing: None, replays })
    };
    let ((first, write), (_, again)) = (replay(1), replay(1));
    let answers = store.write(vec![write, again]).await.unwrap();
    let Ok(Written::Created(fence)) = answers[0] else { panic!("{answers:?}") };
    assert!(matches!(&answers[1], Ok(Written::Exists(run)) if run.run_id == first), "{answers:?}");
    assert_eq!(store.dead_letter(id, 1).await.unwrap().unwrap().replayed_by, Some(first));
    let of = async |replayed| {
        let filter = DeadLetterFilter { replayed: Some(replayed), limit: 9, ..DeadLetterFilter::default() };
        let letters = store.dead_letters(filter).await.unwrap();
        letters.iter().map(|letter| letter.step_run).collect::<Vec<_>>()
    };
    assert_eq!((of(true).await, of(false).await), (vec![1], vec![2]));
    let refused = write_one(store, replay(3).1).await.unwrap_err();
    assert_eq!(refused, WriteError::NoDeadLetter { run_id: id, step_run: 3 });
    // Once the run that did it again is gone, it can be done once more.
    appended(store, ending(first, fence, 1, RunStatus::Failed)).await;
    assert_eq!(store.prune(Retention::before(at(100)), 100).await.unwrap(), 1);
    let (second, write) = replay(1);
    assert!(matches!(write_one(store, write).await, Ok(Written::Created(_))));
    assert_eq!(store.dead_letter(id, 1).await.unwrap().unwrap().replayed_by, Some(second));
}

fn entry(key: &str, pipeline_id: &str, task: &str, expires_at: Option<i64>) -> CacheEntry {
    let value = json!({"key": key, "odd": odd_values()});
    CacheEntry {
        key: key.as_bytes().to_vec(),
        pipeline_id: pipeline(pipeline_id),
        task: task.into(),
        bytes: serde_json::to_vec(&value).unwrap().len() as u64,
        value: Arc::new(value),
        created_at: at(0),
        expires_at: expires_at.map(at),
    }
}

const fn room(values: usize, bytes: u64) -> CacheRoom {
    CacheRoom { values, bytes }
}

async fn cached_values<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(&store, run, Uuid::now_v7()).await;
    let mut entries = vec![
        entry("a", "p", "t", None),
        entry("b", "p", "t", Some(5)),
        entry("c", "p", "u", Some(9)),
        entry("", "q", "t", None),
    ];
    let keep = |cache: Vec<CacheEntry>, seq| {
        let beside = Beside { cache, ..Beside::default() };
        Append { beside, ..append(id, fence, [seq]) }
    };
    appended(&store, keep(entries.clone(), 1)).await;
    let mut store = subject.restart(store).await;
    for entry in &entries {
        assert_eq!(store.cached(&entry.key, at(4)).await.unwrap().as_ref(), Some(entry));
    }
    assert!(store.cached(b"nothing", at(4)).await.unwrap().is_none());
    assert!(store.cached(b"b", at(5)).await.unwrap().is_none(), "it has expired");
    let bytes = |entries: &[&CacheEntry]| {
        entries.iter().map(|entry| serde_json::to_vec(&entry.value).unwrap().len() as u64).sum()
    };
    let stats = |task: &str, of: &[&CacheEntry]| CacheStats {
        task: task.to_owned(),
        entries: of.len() as u64,
        bytes: bytes(of),
    };
    let expected = [stats("t", &[&entries[0], &entries[1]]), stats("u", &[&entries[2]])];
    assert_eq!(store.cache_stats(&pipeline("p")).await.unwrap(), expected);
    assert!(store.cache_stats(&pipeline("nobody")).await.unwrap().is_empty());

    // A newer value takes the place of an older one, and becomes the newest.
    let (claimed, fence) = store.claim(Uuid::now_v7(), at(1), Timestamp::MAX, 9).await.unwrap().remove(0);
    let newer = CacheEntry { value: Arc::new(json!(2)), bytes: 1, ..entries[0].clone() };
    let beside = Beside { cache: vec![newer.clone()], ..Beside::default() };
    appended(&store, Append { beside, ..append(claimed.run_id, fence, [2]) }).await;
    entries[0] = newer;
    let expected = [stats("t", &[&entries[0], &entries[1]]), stats("u", &[&entries[2]])];
    assert_eq!(store.cache_stats(&pipeline("p")).await.unwrap(), expected);
    assert_eq!(store.cached(b"a", at(4)).await.unwrap().as_ref(), Some(&entries[0]));
    assert_eq!(store.prune_cache(at(5), room(100, u64::MAX)).await.unwrap(), 1, "what has expired");
    assert_eq!(store.prune_cache(at(5), room(2, u64::MAX)).await.unwrap(), 1, "the oldest beyond the bound");
    store = subject.restart(store).await;
    let left = async |key: &[u8]| store.cached(key, at(1)).await.unwrap().is_some();
    assert_eq!(
        (left(b"a").await, left(b"b").await, left(b"c").await, left(b"").await),
        (true, false, false, true)
    );
    let bytes = entries[0].bytes + entries[3].bytes;
    assert_eq!(store.prune_cache(at(5), room(9, bytes)).await.unwrap(), 0, "there is room for all bytes");
    assert_eq!(store.prune_cache(at(5), room(9, bytes - 1)).await.unwrap(), 1, "the oldest, for its bytes");
    assert_eq!((left(b"a").await, left(b"").await), (true, false));
    assert_eq!(store.drop_cached(&pipeline("p"), Some("u")).await.unwrap(), 0);
    assert_eq!(store.drop_cached(&pipeline("p"), Some("t")).await.unwrap(), 1);
    assert_eq!(store.drop_cached(&pipeline("q"), None).await.unwrap(), 0);
    assert_eq!(store.prune_cache(at(5), room(0, 0)).await.unwrap(), 0, "nothing is left");

    // It goes with its pipeline.
    store.put_pipeline(catalog::definition("p", 1)).await.unwrap();
    let (claimed, fence) = store.claim(Uuid::now_v7(), at(1), Timestamp::MAX, 9).await.unwrap().remove(0);
    let beside = Beside { cache: entries, ..Beside::default() };
    appended(&store, Append { beside, ..append(claimed.run_id, fence, [3]) }).await;
    assert!(store.delete_pipeline(&pipeline("p")).await.unwrap());
    assert!(store.cached(b"a", at(1)).await.unwrap().is_none());
    assert!(store.cached(b"", at(1)).await.unwrap().is_some(), "that of another pipeline");
}

fn delivery(hook: &str, next_at: i64) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        hook: hook.to_owned(),
        body: Arc::new(odd_values()),
        created_at: at(0),
        next_at: at(next_at),
        attempts: 0,
        error: None,
        dead: false,
    }
}

async fn deliveries<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(&store, run, Uuid::now_v7()).await;
    let [mut a, b, c, d] =
        [("x", 5), ("y", 1), ("x", 3), ("x", 3)].map(|(hook, next_at)| delivery(hook, next_at));
    let beside = Beside { deliveries: vec![a.clone(), b.clone()], ..Beside::default() };
    appended(&store, Append { beside, ..append(id, fence, [1]) }).await;
    let put = |delivery: &Delivery| DeliveryChange::Put(delivery.clone());
    store.change_deliveries(vec![put(&c), put(&d), put(&c)]).await.unwrap();
    let store = subject.restart(store).await;
    let waiting = async |store: &S::Store, hook: Option<&str>| {
        let filter =
            DeliveryFilter { hook: hook.map(str::to_owned), limit: 100, ..DeliveryFilter::default() };
        store.deliveries(filter).await.unwrap()
    };
    assert_eq!(
        waiting(&store, None).await,
        [b.clone(), c.clone(), d.clone(), a.clone()],
        "the next one first"
    );
    assert_eq!(waiting(&store, Some("x")).await, [c.clone(), d.clone(), a.clone()]);
    assert!(waiting(&store, Some("nobody")).await.is_empty());
    for hook in [None, Some("x".to_owned())] {
        let all = DeliveryFilter { hook, limit: 1, ..DeliveryFilter::default() };
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.deliveries(DeliveryFilter { after, ..all.clone() }).await.unwrap();
            after = page.last().map(|delivery| (delivery.next_at, delivery.id));
            seen.extend(page);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, waiting(&store, all.hook.as_deref()).await, "in pages");
    }
    let bytes = a.bytes();
    let stats = |counts: &[(&str, u64, u64)]| {
        let of = |(hook, waiting, dead): &(&str, u64, u64)| DeliveryStats {
            hook: (*hook).to_owned(),
            pipeline: String::new(),
            waiting: *waiting,
            waiting_bytes: waiting * bytes,
            dead: *dead,
        };
        counts.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(store.delivery_stats().await.unwrap(), stats(&[("x", 3, 0), ("y", 1, 0)]));

    // One is tried in vain, one is taken, two are given up.
    (a.attempts, a.next_at, a.error) = (1, at(2), Some("503".to_owned()));
    let [dead_b, dead_d] = [&b, &d].map(|delivery| Delivery { dead: true, attempts: 9, ..delivery.clone() });
    let changes =
        vec![put(&a), DeliveryChange::Done(c.id), DeliveryChange::Done(c.id), put(&dead_b), put(&dead_d)];
    store.change_deliveries(changes).await.unwrap();
    let store = subject.restart(store).await;
    assert_eq!(waiting(&store, None).await, [a]);
    assert_eq!(store.delivery_stats().await.unwrap(), stats(&[("x", 1, 1), ("y", 0, 1)]));
    let dead = async |hook: Option<&str>, before| {
        let hook = hook.map(str::to_owned);
        store
            .deliveries(DeliveryFilter { hook, dead: true, before, limit: 9, ..DeliveryFilter::default() })
            .await
            .unwrap()
    };
    assert_eq!(dead(None, None).await, [dead_d.clone(), dead_b.clone()], "newest first");
    assert_eq!(dead(Some("x"), None).await, std::slice::from_ref(&dead_d));
    assert_eq!(dead(None, Some(dead_d.id)).await, [dead_b]);
    store.close().await;
    assert_eq!(store.change_deliveries(Vec::new()).await.unwrap_err(), StoreError::Closed);
}

async fn deliveries_given_up_are_bounded(store: &impl Store) {
    let dead = |hook| Delivery { dead: true, body: Arc::new(Value::Null), ..delivery(hook, 0) };
    let first = dead("other");
    store.change_deliveries(vec![DeliveryChange::Put(first.clone())]).await.unwrap();
    let mut last = Uuid::nil();
    for _ in 0..12 {
        let some: Vec<Delivery> = (0..100).map(|_| dead("x")).collect();
        last = some[99].id;
        store.change_deliveries(some.into_iter().map(DeliveryChange::Put).collect()).await.unwrap();
    }
    let of = async |hook: &str| {
        let hook = Some(hook.to_owned());
        store
            .deliveries(DeliveryFilter { hook, dead: true, limit: usize::MAX, ..DeliveryFilter::default() })
            .await
            .unwrap()
    };
    let kept = of("x").await;
    assert!(kept.len() >= 100 && kept.len() < 1200, "many, but not without end: {}", kept.len());
    assert_eq!(kept[0].id, last, "the newest");
    assert_eq!(of("other").await, [first], "each hook by itself");
}

/// A pipeline of which very much was given up drives out its own, in number and in bytes, and not those of others.
async fn deliveries_given_up_are_shared_out(store: &impl Store) {
    let dead = |pipeline: &str, length: usize| {
        let body = Arc::new(json!({"pipeline_id": pipeline, "result": "x".repeat(length)}));
        Delivery { dead: true, body, ..delivery("x", 0) }
    };
    let put = async |deliveries: &[Delivery]| {
        let puts = deliveries.iter().cloned().map(DeliveryChange::Put);
        store.change_deliveries(puts.collect()).await.unwrap();
    };
    let kept = async || {
        let filter = DeliveryFilter {
            hook: Some("x".to_owned()),
            dead: true,
            limit: usize::MAX,
            ..DeliveryFilter::default()
        };
        store.deliveries(filter).await.unwrap()
    };
    let quiet: Vec<Delivery> = (0..3).map(|_| dead("quiet", 1)).collect();
    put(&quiet).await;
    let small: Vec<Delivery> = (0..1100).map(|_| dead("loud", 1)).collect();
    for some in small.chunks(100) {
        put(some).await;
    }
    let all = kept().await;
    assert!(all.len() < 1100, "{}", all.len());
    assert_eq!(all[0], small[1099], "the newest");
    assert_eq!(all[all.len() - 3..], [quiet[2].clone(), quiet[1].clone(), quiet[0].clone()]);
    // Long ones drive out those of the pipeline that has most bytes.
    const LONG: usize = 200_000;
    let long: Vec<Delivery> = (0..400).map(|_| dead("loud", LONG)).collect();
    for some in long.chunks(50) {
        put(some).await;
    }
    let all = kept().await;
    let bytes: usize = all.iter().map(|delivery| delivery.body["result"].as_str().unwrap().len()).sum();
    assert!((100 * LONG..400 * LONG).contains(&bytes), "{bytes}");
    assert_eq!(all[0], long[399], "the newest");
    assert_eq!(all[all.len() - 3..], [quiet[2].clone(), quiet[1].clone(), quiet[0].clone()]);
    // What is told again is no longer among them.
    let again = Delivery { dead: false, ..quiet[0].clone() };
    put(&[again]).await;
    assert_eq!(kept().await.len(), all.len() - 1);
}

/// Also with the others of its call.
async fn what_is_refused_leaves_nothing_beside(store: &impl Store) {
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    let beside = Beside {
        dead_letters: vec![letter(id, "p", 1)],
        cache: vec![entry("k", "p", "t", None)],
        deliveries: vec![delivery("x", 1)],
    };
    assert!(!beside.is_empty() && Beside::default().is_empty());
    let gap = Append { beside: beside.clone(), ..append(id, fence, [2]) };
    assert_eq!(refused(store, gap).await, WriteError::Gap { run_id: id, expected: 1, found: 0 });
    assert!(store.dead_letter(id, 1).await.unwrap().is_none());
    assert!(store.cached(b"k", at(1)).await.unwrap().is_none());
    assert!(
        store.deliveries(DeliveryFilter { limit: 9, ..DeliveryFilter::default() }).await.unwrap().is_empty()
    );
    appended(store, Append { beside, ..append(id, fence, [1]) }).await;
    assert!(store.dead_letter(id, 1).await.unwrap().is_some());

    // A run that was there already does not make a firing be noted.
    let again = store.run(id).await.unwrap().unwrap();
    let firing = Some(Box::new(firing("s", 1, FiringOutcome::Started)));
    let create = RunWrite::Create { run: Box::new(again), owner: Uuid::now_v7(), firing, replays: None };
    assert!(matches!(write_one(store, create).await, Ok(Written::Exists(_))));
    assert!(store.firings(of_schedule("s")).await.unwrap().is_empty());
}
