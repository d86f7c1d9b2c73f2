use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

fn limit(place: usize, value: &str, most: u32, on_full: OnFull) -> Limit {
    let key = LimitKey { pipeline: "p".parse().unwrap(), place, value: value.into() };
    Limit { key, most, on_full }
}

fn candidate(rank: i64, limits: Vec<Limit>) -> Candidate {
    let (run_id, pipeline) = (RunId::new(), "p".parse().unwrap());
    Candidate { run_id, pipeline, rank: Rank(rank), limits: limits.into(), takes_room: true, shard: 0 }
}

fn opened(room: usize, queue: usize) -> Admission {
    let admission = Admission::new(2, room, queue);
    admission.open();
    admission
}

fn start(admission: &Admission, candidate: &Candidate) -> Place {
    match admission.ask(candidate.clone()) {
        Answer::Start(place) => place,
        other => panic!("{other:?}"),
    }
}

fn wait(admission: &Admission, candidate: &Candidate) -> Place {
    match admission.ask(candidate.clone()) {
        Answer::Wait(place) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_best_rank_goes_first_and_the_line_has_an_end() {
    let admission = opened(1, 3);
    let (first, late, early) = (candidate(0, vec![]), candidate(2, vec![]), candidate(1, vec![]));
    let place = start(&admission, &first);
    let _late = wait(&admission, &late);
    let early_place = wait(&admission, &early);
    let limits: Arc<[Limit]> = Arc::from(vec![]);
    let refused = Candidate { limits: Arc::clone(&limits), ..candidate(0, vec![]) };
    assert!(matches!(admission.ask(refused), Answer::Busy));
    assert_eq!(Arc::strong_count(&limits), 1, "nothing is kept of what was refused");
    assert!(admission.admitted(0).is_empty());
    drop(place);
    assert_eq!(admission.admitted(0), [early.run_id]);
    drop(early_place);
    assert_eq!(admission.admitted(0), [late.run_id]);
    assert!(admission.admitted(1).is_empty());
}

#[test]
fn a_pipeline_leaves_room_in_the_line_to_others() {
    let admission = opened(10, 10);
    let full = || vec![limit(0, "", 1, OnFull::Queue)];
    let mut places = vec![start(&admission, &candidate(0, full()))];
    // Under its own limit, while nothing else is under way.
    places.extend((0..5).map(|_| wait(&admission, &candidate(0, full()))));
    assert!(matches!(admission.ask(candidate(0, full())), Answer::Busy));
    let of =
        |pipeline: &str, limits| Candidate { pipeline: pipeline.parse().unwrap(), ..candidate(0, limits) };
    // Those of others are told from its own by their pipeline, not by their limits.
    places.extend((0..3).map(|_| wait(&admission, &of("q", full()))));
    assert!(matches!(admission.ask(of("q", full())), Answer::Busy));
    places.push(wait(&admission, &of("r", full())));
    // Inner runs neither count nor are refused; what was accepted before a restart is not either.
    let inner = Candidate { takes_room: false, ..candidate(0, full()) };
    places.extend((0..20).map(|_| wait(&admission, &Candidate { run_id: RunId::new(), ..inner.clone() })));
    places.push(wait(&admission, &of("s", full())));
    assert!(matches!(admission.ask(of("t", full())), Answer::Busy), "ten wait");
    places.push(admission.ask_again(&of("t", full())).0);
    // Neither one that goes nor one that starts is in line any more: three of its own are left, and as many of another.
    places.truncate(9);
    places.drain(..2);
    places.push(wait(&admission, &candidate(0, full())));
    assert!(matches!(admission.ask(candidate(0, full())), Answer::Busy));
    drop(places);
    assert!(admission.0.state.lock().is_empty());
}

#[test]
fn a_step_of_priority_is_worth_half_a_minute_of_waiting() {
    let at = Timestamp::from_millis;
    let high = Priority::try_from(6).unwrap();
    assert!(Rank::of(high, at(29_999)) < Rank::of(Priority::default(), at(0)));
    assert!(Rank::of(high, at(30_001)) > Rank::of(Priority::default(), at(0)));
    assert!(Rank::inner(at(0)) < Rank::of(Priority::MAX, at(0)));
}

#[test]
fn runs_of_one_key_wait_for_each_other_and_for_nobody_else() {
    let admission = opened(10, 10);
    let of = |key: &str, rank| {
        candidate(rank, vec![limit(0, key, 1, OnFull::Queue), limit(1, "", 3, OnFull::Queue)])
    };
    let (a1, a2, b1, c1, d1) = (of("a", 1), of("a", 2), of("b", 3), of("c", 4), of("d", 5));
    let a1_place = start(&admission, &a1);
    let a2_place = wait(&admission, &a2);
    let _b1 = start(&admission, &b1);
    let c1_place = start(&admission, &c1);
    let d1_place = wait(&admission, &d1);
    let told = |run: &Candidate| admission.waits_for(run.run_id).unwrap();
    assert_eq!(told(&a2), "pipeline `p` has at most 1 run at once for the key `a`");
    assert_eq!(told(&d1), "pipeline `p` has at most 3 runs at once");
    drop(c1_place);
    assert_eq!(admission.admitted(0), [d1.run_id]);
    assert_eq!(admission.waits_for(d1.run_id), None);
    drop(a1_place);
    assert_eq!(admission.admitted(0), [a2.run_id]);
    drop((a2_place, d1_place));
}

#[test]
fn one_that_leaves_the_line_is_not_let_in() {
    let admission = opened(1, 10);
    let (first, second, third) = (candidate(0, vec![]), candidate(1, vec![]), candidate(2, vec![]));
    let place = start(&admission, &first);
    let second_place = wait(&admission, &second);
    let third_place = wait(&admission, &third);
    drop(second_place);
    drop(place);
    assert_eq!(admission.admitted(0), [third.run_id]);
    drop(third_place);
    assert!(admission.0.state.lock().is_empty());
}

#[test]
fn a_limit_can_refuse_or_let_the_newest_take_over() {
    let admission = opened(10, 10);
    let skipping = || candidate(0, vec![limit(0, "", 1, OnFull::Skip)]);
    let place = start(&admission, &skipping());
    let Answer::Skip(reason) = admission.ask(skipping()) else { panic!() };
    assert_eq!(reason, "pipeline `p` has at most 1 run at once");
    drop(place);
    drop(start(&admission, &skipping()));

    let newest = || candidate(0, vec![limit(1, "", 1, OnFull::CancelOldest)]);
    let (one, two, three) = (newest(), newest(), newest());
    let one_place = start(&admission, &one);
    assert!(one_place.supersede().is_empty());
    let two_place = wait(&admission, &two);
    let three_place = wait(&admission, &three);
    // Asked in any order, each is named once, and none is superseded by one that is older.
    assert_eq!(two_place.supersede(), [one.run_id]);
    assert_eq!(three_place.supersede(), [two.run_id]);
    assert!(three_place.supersede().is_empty() && two_place.supersede().is_empty());
    drop(two_place);
    drop(one_place);
    assert_eq!(admission.admitted(0), [three.run_id]);
}

#[test]
fn inner_runs_take_no_room_but_keep_to_the_limits_of_their_pipeline() {
    let admission = opened(1, 0);
    let inner = |limits| Candidate { takes_room: false, ..candidate(0, limits) };
    let outer = start(&admission, &candidate(0, vec![]));
    let _free = start(&admission, &inner(vec![]));
    let limited = || inner(vec![limit(0, "", 1, OnFull::Queue)]);
    let place = start(&admission, &limited());
    let waiting = limited();
    // However many wait: refusing it would fail a run that was accepted.
    let _waiting = wait(&admission, &waiting);
    drop(place);
    assert_eq!(admission.admitted(0), [waiting.run_id]);
    drop(outer);
}

#[test]
fn after_a_restart_those_under_way_have_their_places_before_anybody_starts() {
    let admission = Admission::new(1, 2, 10);
    let of = |rank| candidate(rank, vec![limit(0, "", 1, OnFull::Queue)]);
    let (queued, running, other) = (of(0), of(1), candidate(2, vec![]));
    let (_queued, starts) = admission.ask_again(&queued);
    assert!(!starts);
    let running = admission.resume(&running);
    let (_other, starts) = admission.ask_again(&other);
    assert!(!starts && admission.admitted(0).is_empty());
    admission.open();
    assert_eq!(admission.admitted(0), [other.run_id]);
    drop(running);
    assert_eq!(admission.admitted(0), [queued.run_id]);
}

#[test]
fn the_places_of_an_engine_that_stops_are_not_given_away() {
    let admission = opened(1, 10);
    let place = start(&admission, &candidate(0, vec![]));
    let _waiting = wait(&admission, &candidate(1, vec![]));
    admission.close();
    drop(place);
    assert!(admission.admitted(0).is_empty());
}

/// What happens to a run in the property test.
#[derive(Debug, Clone)]
enum Act {
    Ask { rank: i64, limits: Vec<usize>, inner: bool },
    Leave(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let ask = (0_i64..5, proptest::collection::vec(0_usize..4, 0..3), proptest::bool::weighted(0.2));
    prop_oneof![
        ask.prop_map(|(rank, mut limits, inner)| {
            limits.sort_unstable();
            limits.dedup();
            Act::Ask { rank, limits, inner }
        }),
        (0_usize..100).prop_map(Act::Leave),
    ]
}

proptest! {
    /// Never more under way than may be, nobody waits for what is free, and nothing leaks.
    #[test]
    fn places_are_neither_lost_nor_given_twice(acts in proptest::collection::vec(act(), 1..80)) {
        const ROOM: usize = 3;
        let most = [1, 2, 1, 3];
        let admission = opened(ROOM, 1000);
        let mut places: BTreeMap<RunId, (Candidate, Place)> = BTreeMap::new();
        let mut running: HashMap<RunId, Candidate> = HashMap::new();
        for act in acts {
            match act {
                Act::Ask { rank, limits, inner } => {
                    let limits = limits.into_iter().map(|at| limit(at, "", most[at], OnFull::Queue)).collect();
                    let candidate = Candidate { takes_room: !inner, ..candidate(rank, limits) };
                    match admission.ask(candidate.clone()) {
                        Answer::Start(place) => {
                            running.insert(candidate.run_id, candidate.clone());
                            places.insert(candidate.run_id, (candidate, place));
                        }
                        Answer::Wait(place) => drop(places.insert(candidate.run_id, (candidate, place))),
                        other => panic!("{other:?}"),
                    }
                }
                Act::Leave(nth) => {
                    let Some(run_id) = places.keys().nth(nth % places.len().max(1)).copied() else { continue };
                    places.remove(&run_id);
                    running.remove(&run_id);
                }
            }
            for run_id in admission.admitted(0) {
                let candidate = places[&run_id].0.clone();
                prop_assert!(running.insert(run_id, candidate).is_none(), "let in twice");
            }
            let used = |at: usize| running.values().filter(|run| run.limits.iter().any(|l| l.key.place == at)).count();
            let room = running.values().filter(|run| run.takes_room).count();
            prop_assert!(room <= ROOM && (0..4).all(|at| used(at) <= most[at] as usize));
            prop_assert_eq!(admission.0.state.lock().under_way(), room);
            for (candidate, _) in places.values().filter(|(run, _)| !running.contains_key(&run.run_id)) {
                let blocked = (candidate.takes_room && room == ROOM)
                    || candidate.limits.iter().any(|l| used(l.key.place) == most[l.key.place] as usize);
                prop_assert!(blocked, "waits for nothing");
            }
        }
        places.clear();
        prop_assert!(admission.0.state.lock().is_empty());
    }
}
