use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{Command, Input, Run};

use super::*;

/// What each step of the pipeline looks for first, by the names of step runs.
fn digests(definition: &Value, parameters: &Value) -> BTreeMap<String, Digest> {
    let pipeline = load_json(definition.clone()).unwrap_or_else(|errors| panic!("{errors}")).remove(0);
    let plan = Arc::new(Plan::new(Arc::new(pipeline)).unwrap());
    let parameters = plan.check_parameters(parameters.as_object().unwrap().clone()).unwrap();
    let now = Timestamp::from_millis(1_000_000);
    let mut run = Run::new(Arc::clone(&plan), RunId::new(), &parameters, now);
    let parts = Parts::default();
    let effects = run.handle(Input::Start { reuse: Vec::new() }, now).unwrap();
    let lookup = |command: Command| match command {
        Command::Lookup { work } => {
            let key = work.cache_key().unwrap();
            Some((work.step.to_string(), Digest::of(&plan, &work, key.as_ref(), &parts)))
        }
        _ => None,
    };
    effects.commands.into_iter().filter_map(lookup).collect()
}

fn digest(definition: &Value, parameters: &Value) -> Digest {
    let found: Vec<_> = digests(definition, parameters).into_values().collect();
    assert_eq!(found.len(), 1, "one step looks for a value");
    found[0]
}

fn one(task: Value) -> Value {
    let mut all = json!({"name": "a", "task": "double", "inputs": ["x", "y"], "cache": {"ttl": "1h"}});
    all.as_object_mut().unwrap().extend(task.as_object().unwrap().clone());
    json!({"id": "p", "tasks": [all]})
}

#[test]
fn a_key_is_what_the_value_depends_on() {
    let inputs = json!({"x": {"a": 1, "b": [2, null]}, "y": "z"});
    let usual = digest(&one(json!({})), &inputs);
    let same = [
        json!({"description": "d", "timeout": "1s", "total_timeout": "1m", "on_error": "continue"}),
        json!({"retry": {"max_attempts": 3}, "when": "true", "cache": {"ttl": "5m"}}),
        json!({"cache": {}}),
    ];
    for task in same {
        assert_eq!(digest(&one(task.clone()), &inputs), usual, "{task}");
    }
    assert_eq!(digest(&one(json!({})), &json!({"y": "z", "x": {"b": [2, null], "a": 1}})), usual);
    let others = [
        json!({"name": "b"}),
        json!({"task": "triple"}),
        json!({"with": {"z": 1}}),
        json!({"outputs": ["a", "b"]}),
        json!({"cache": {"version": "2"}}),
        json!({"cache": {"key": "x"}}),
    ];
    let mut seen = HashSet::from([usual]);
    for task in others {
        assert!(seen.insert(digest(&one(task.clone()), &inputs)), "{task}");
    }
    let mut elsewhere = one(json!({}));
    elsewhere["id"] = json!("q");
    assert!(seen.insert(digest(&elsewhere, &inputs)), "another pipeline");
}

#[test]
fn what_was_found_is_shown_without_its_value() {
    let value = Arc::new(json!("a secret"));
    for found in [Found::Kept(Arc::clone(&value)), Found::Made(value)] {
        let looked = Looked { who: (RunId::new(), 0), found };
        assert!(!format!("{looked:?}").contains("secret"), "{looked:?}");
    }
}

#[test]
fn what_many_are_given_is_digested_once() {
    let map = json!({"over": "list", "as": "x", "task": "double"});
    let definition = json!({"id": "p", "tasks": [
        {"name": "a", "map": map, "inputs": ["list", "big"], "cache": {}},
    ]});
    let pipeline = load_json(definition).unwrap().remove(0);
    let plan = Arc::new(Plan::new(Arc::new(pipeline)).unwrap());
    let parameters = json!({"list": [1, 2, 3], "big": [[0], [1]]});
    let now = Timestamp::from_millis(1_000_000);
    let mut run = Run::new(Arc::clone(&plan), RunId::new(), parameters.as_object().unwrap(), now);
    let effects = run.handle(Input::Start { reuse: Vec::new() }, now).unwrap();
    let parts = Parts::default();
    let mut digests = HashSet::new();
    for command in effects.commands {
        let Command::Lookup { work } = command else { continue };
        digests.insert(Digest::of(&plan, &work, None, &parts));
        assert_eq!(parts.values.lock().len(), 1, "the items are each one's own");
    }
    assert_eq!(digests.len(), 3);
}

#[test]
fn the_definition_of_a_key_is_that_of_its_own_task() {
    let two = |first: &str, second: &str| {
        let tasks = json!([
            {"name": "a", "task": first, "inputs": ["x"], "cache": {}},
            {"name": "b", "task": second, "inputs": ["x"], "cache": {}},
        ]);
        digests(&json!({"id": "p", "tasks": tasks}), &json!({"x": 1}))
    };
    let (before, after) = (two("f", "g"), two("f", "h"));
    assert_eq!(before["a"], after["a"]);
    assert_ne!(before["b"], after["b"]);
}

#[test]
fn no_two_values_look_alike() {
    let values = [
        json!(null),
        json!(false),
        json!(0),
        json!(1),
        json!(1.0),
        json!("1"),
        json!(""),
        json!("null"),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!(["a", "bc"]),
        json!(["ab", "c"]),
        json!(["abc"]),
        json!([["a"], "bc"]),
        json!({"a": 1}),
        json!({"a": {"1": null}}),
        json!([1, 11]),
        json!([11, 1]),
        json!({"a": [], "b": null}),
        json!({"ab": null}),
        json!({"a": "b"}),
    ];
    let mut seen = HashSet::new();
    for x in &values {
        for y in &values {
            assert!(seen.insert(digest(&one(json!({})), &json!({"x": x, "y": y}))), "{x} {y}");
        }
    }
}

#[test]
fn a_key_expression_takes_the_place_of_the_inputs() {
    let keyed = one(json!({"cache": {"key": "x"}}));
    let of = |x: i32, y: i32| digest(&keyed, &json!({"x": x, "y": y}));
    assert_eq!(of(1, 2), of(1, 3));
    assert_ne!(of(1, 2), of(2, 2));
}

#[test]
fn items_have_keys_of_their_own_place_in_the_definition_and_of_their_inputs() {
    let group = json!([{"task": "double"}, {"task": "double"}]);
    let definition = json!({"id": "p", "tasks": [
        {"name": "m", "map": {"over": "list", "as": "x", "group": group}, "cache": {}},
    ]});
    let digests = digests(&definition, &json!({"list": [7, 8, 7]}));
    let of = |name: &str| digests[name];
    assert_eq!(of("m[0][0]"), of("m[2][0]"), "the same item");
    assert_ne!(of("m[0][0]"), of("m[0][1]"), "another member");
    assert_ne!(of("m[0][0]"), of("m[1][0]"), "another item");
}

#[test]
fn values_are_kept_up_to_a_length() {
    assert_eq!(length_of(&json!("x".repeat(MAX_BYTES - 2))), Some(MAX_BYTES), "with its quotes");
    assert_eq!(length_of(&json!("x".repeat(MAX_BYTES - 1))), None);
    assert_eq!(length_of(&json!({"a": [1, null]})), Some(r#"{"a":[1,null]}"#.len()));
}

fn key(number: u8) -> Digest {
    Digest([number; 32])
}

fn runs<const N: usize>() -> [StepRun; N] {
    let mut runs: [StepRun; N] = std::array::from_fn(|place| (RunId::new(), place as u32));
    runs.sort();
    runs
}

#[test]
fn one_makes_the_value_and_the_others_are_told() {
    let (flights, [a, b, c]) = (Flights::default(), runs());
    assert!(flights.ask(key(1), a));
    assert!(!flights.ask(key(1), b) && !flights.ask(key(1), c));
    assert!(flights.ask(key(2), b), "something else");
    assert_eq!(flights.settle(&key(1), a), BTreeSet::from([b, c]));
    assert!(flights.ask(key(1), c), "what is over is looked for anew");
    assert!(flights.leave(&key(1), c).is_none() && flights.leave(&key(2), b).is_none());
    assert!(flights.0.lock().is_empty(), "nothing is kept of what is over");
}

#[test]
fn who_makes_it_no_more_hands_it_on() {
    let (flights, [a, b, c, d]) = (Flights::default(), runs());
    assert!(flights.ask(key(1), a) && flights.ask(key(1), a), "nobody waits for itself");
    [b, c, d].iter().for_each(|who| assert!(!flights.ask(key(1), *who)));
    assert_eq!(flights.leave(&key(1), b), None, "one that waited");
    assert_eq!(flights.leave(&key(1), a), Some(c), "the oldest run");
    flights.lead(key(1), a);
    assert_eq!(flights.leave(&key(1), c), None, "there is another who makes it");
    assert_eq!(flights.settle(&key(1), a), BTreeSet::from([d]));
    assert!(flights.0.lock().is_empty());
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Ask,
    Lead,
    Settle,
    Leave,
}

proptest! {
    /// Whoever waits, waits for somebody; who was told makes it or has it; and nothing is left over.
    #[test]
    fn nobody_waits_for_nobody(
        happenings in prop::collection::vec(
            (prop_oneof![Just(Happening::Ask), Just(Happening::Lead), Just(Happening::Settle), Just(Happening::Leave)], 0..5_usize, 0..2_u8),
            0..60,
        )
    ) {
        let (flights, who) = (Flights::default(), runs::<5>());
        // By key and step run: whether it waits.
        let mut known: BTreeMap<(u8, StepRun), bool> = BTreeMap::new();
        for (happening, place, number) in happenings {
            let (one, digest) = (who[place], key(number));
            match happening {
                Happening::Ask if known.contains_key(&(number, one)) => {}
                Happening::Ask => drop(known.insert((number, one), !flights.ask(digest, one))),
                Happening::Lead if known.get(&(number, one)) == Some(&true) => {}
                Happening::Lead => {
                    flights.lead(digest, one);
                    known.insert((number, one), false);
                }
                // Only who makes it comes to an end.
                Happening::Settle if known.get(&(number, one)) != Some(&false) => {}
                Happening::Settle => {
                    known.remove(&(number, one));
                    for told in flights.settle(&digest, one) {
                        prop_assert_eq!(known.remove(&(number, told)), Some(true));
                    }
                }
                Happening::Leave => {
                    known.remove(&(number, one));
                    if let Some(next) = flights.leave(&digest, one) {
                        prop_assert_eq!(known.insert((number, next), false), Some(true));
                    }
                }
            }
            for number in 0..2 {
                let of_key = known.iter().filter(|((of, _), _)| *of == number);
                let waits: Vec<bool> = of_key.map(|(_, waits)| *waits).collect();
                prop_assert!(!waits.contains(&true) || waits.contains(&false), "{:?}", known);
            }
        }
        for (number, one) in known.into_keys() {
            flights.leave(&key(number), one);
        }
        prop_assert!(flights.0.lock().is_empty());
    }
}
