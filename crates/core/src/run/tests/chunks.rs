//! Maps whose items come in chunks, and reductions that take several at once.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::driver::{World, expression, pipeline, task};
use super::{expr, map};
use crate::definition::{
    Chunk, Input as TaskInput, MapSpec, OnError, OnItemError, Pipeline, ReduceSpec, RetryPolicy, Task,
    TaskKind,
};
use crate::run::{Fact, Failure, Input, ItemFilter, Outcome, RunStatus, StepStatus, Work};

fn of(size: u32) -> Option<Chunk> {
    NonZeroU32::new(size).map(Chunk::Of)
}

fn rows(spec: MapSpec) -> Task {
    let mut rows = task("rows", TaskKind::Map(spec));
    rows.inputs = vec![TaskInput::required("list")];
    rows
}

fn mapped(chunk: Option<Chunk>) -> MapSpec {
    MapSpec { chunk, ..map("list", "x", expr("x * 10")) }
}

fn world(spec: MapSpec, items: u32) -> World {
    let mut world = World::new(pipeline(vec![rows(spec)]), json!({"list": (0..items).collect::<Vec<_>>()}));
    world.start();
    world
}

/// What each item of an attempt comes to.
fn values(work: &Work) -> Vec<Outcome> {
    let mut work = work.clone();
    let mut outcomes = Vec::new();
    loop {
        let x = work.inputs.get("x").cloned().unwrap_or_default();
        outcomes.push(Outcome::Completed(json!(x.as_i64().unwrap_or_default() * 10).into()));
        if !work.next_item(None) {
            return outcomes;
        }
    }
}

fn finish(world: &mut World, step: &str) {
    let work = world.work(step);
    world.report_chunk(&work, values(&work));
}

fn attempts(world: &World) -> Vec<(String, usize)> {
    world.works().map(|work| (work.step.to_string(), work.members().count())).collect()
}

fn named(list: &[(&str, usize)]) -> Vec<(String, usize)> {
    list.iter().map(|(step, count)| ((*step).to_owned(), *count)).collect()
}

fn failed() -> Outcome {
    Outcome::Failed(Failure::error("no").code("exit:1"))
}

#[test]
fn items_are_carried_out_together_and_each_has_its_value() {
    let mut world = world(mapped(of(3)), 7);
    assert_eq!(attempts(&world), named(&[("rows[0]", 3), ("rows[3]", 3), ("rows[6]", 1)]));
    finish(&mut world, "rows[3]");
    let page = world.run().items("rows", ItemFilter { limit: 9, ..ItemFilter::default() }).unwrap();
    assert_eq!(page.counts, [("completed", 3), ("running", 4)].into_iter().collect());
    assert_eq!(page.items[4].result.as_deref(), Some(&json!(40)));
    finish(&mut world, "rows[0]");
    world.finish("rows[6]");
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [0, 10, 20, 30, 40, 50, 60]}));
    let starts = world.events().iter().filter_map(|event| match &event.fact {
        Fact::StepStart { step, chunk, .. } if step.step_run > 0 => Some((step.step_run, *chunk)),
        _ => None,
    });
    assert_eq!(starts.take(4).collect::<Vec<_>>(), [(1, Some(1)), (2, Some(1)), (3, Some(1)), (4, Some(4))]);
}

#[test]
fn chunks_take_the_room_of_one_attempt_each() {
    let width = NonZeroU32::new(2);
    let mut of_map = world(MapSpec { max_parallel: width, ..mapped(of(2)) }, 7);
    assert_eq!(attempts(&of_map), named(&[("rows[0]", 2), ("rows[2]", 2)]));
    finish(&mut of_map, "rows[0]");
    assert_eq!(attempts(&of_map), named(&[("rows[2]", 2), ("rows[4]", 2)]), "the next chunk takes its place");

    let mut definition = pipeline(vec![rows(mapped(of(4)))]);
    definition.max_parallel = width;
    let mut of_pipeline = World::new(definition, json!({"list": [1, 2, 3, 4, 5, 6, 7, 8, 9]}));
    of_pipeline.start();
    assert_eq!(attempts(&of_pipeline), named(&[("rows[0]", 4), ("rows[4]", 4)]));
    finish(&mut of_pipeline, "rows[4]");
    assert_eq!(of_pipeline.waiting(), ["rows[0]", "rows[8]"]);
}

#[test]
fn only_what_failed_is_repeated() {
    let mut definition = pipeline(vec![rows(mapped(of(3)))]);
    let retry = RetryPolicy { max_attempts: NonZeroU32::new(2).unwrap(), ..RetryPolicy::default() };
    definition.tasks[0] = Task { retry, ..Task::clone(&definition.tasks[0]) }.into();
    let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
    world.start();
    let work = world.work("rows[0]");
    let mut outcomes = values(&work);
    outcomes[1] = failed();
    world.report_chunk(&work, outcomes);
    let page = world.run().items("rows", ItemFilter { limit: 9, ..ItemFilter::default() }).unwrap();
    assert_eq!(page.counts, [("completed", 2), ("retrying", 1)].into_iter().collect());
    assert_eq!(page.items[1].state.code.as_deref(), Some("exit:1"));
    world.advance_timers();
    assert_eq!(attempts(&world), named(&[("rows[1]", 1)]));
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [10, 20, 30]}));
}

/// A map of chunks whose items are repeated once, one chunk at a time unless `most` says otherwise.
fn repeated(size: u32, most: u32, items: u32) -> World {
    let spec = MapSpec { max_parallel: NonZeroU32::new(most), ..mapped(of(size)) };
    let max_attempts = NonZeroU32::new(2).unwrap();
    let retry = RetryPolicy { max_attempts, jitter: false, ..RetryPolicy::default() };
    let definition = pipeline(vec![Task { retry, ..rows(spec) }]);
    let mut world = World::new(definition, json!({"list": (0..items).collect::<Vec<_>>()}));
    world.start();
    world
}

fn fail_all(world: &mut World, step: &str) {
    let work = world.work(step);
    world.report_chunk(&work, vec![failed(); work.members().count()]);
}

#[test]
fn the_bound_of_a_map_holds_for_what_is_repeated_and_chunks_of_it_form_again() {
    let mut world = repeated(4, 1, 6);
    fail_all(&mut world, "rows[0]");
    assert_eq!(attempts(&world), [], "a chunk that waits to be repeated is followed by no other");
    world.advance_timers();
    assert_eq!(attempts(&world), named(&[("rows[0]", 1)]), "whose time comes first goes alone");
    world.finish("rows[0]");
    assert_eq!(attempts(&world), named(&[("rows[1]", 4)]), "the others, and one that is new, go together");
    finish(&mut world, "rows[1]");
    world.finish("rows[5]");
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [0, 10, 20, 30, 40, 50]}));

    // Two at once, and those of a chunk need not follow each other.
    let mut world = repeated(3, 2, 6);
    for step in ["rows[0]", "rows[3]"] {
        let work = world.work(step);
        let mut outcomes = values(&work);
        (outcomes[0], outcomes[2]) = (failed(), failed());
        world.report_chunk(&work, outcomes);
    }
    world.input(Input::Pause).unwrap();
    world.advance_timers();
    world.input(Input::Resume).unwrap();
    assert_eq!(attempts(&world), named(&[("rows[0]", 3), ("rows[5]", 1)]));
    assert!(world.work("rows[0]").members().map(|(id, _)| id).eq([1, 3, 4]));
    world.crash();
    assert_eq!(attempts(&world), named(&[("rows[0]", 3), ("rows[5]", 1)]), "and are taken up together");
    finish(&mut world, "rows[0]");
    world.finish("rows[5]");
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [0, 10, 20, 30, 40, 50]}));
}

#[test]
fn a_map_that_has_no_room_holds_nobody_up() {
    let spec = MapSpec { max_parallel: NonZeroU32::new(1), ..mapped(of(2)) };
    let mut other = expression("other", "1", &["rows"]);
    other.inputs = vec![TaskInput::required("list")];
    other.after = vec!["first".into()];
    let mut definition = pipeline(vec![rows(spec), expression("first", "1", &[]), other]);
    definition.max_parallel = NonZeroU32::new(2);
    let mut world = World::new(definition, json!({"list": [1, 2, 3, 4, 5]}));
    world.start();
    assert_eq!(attempts(&world), named(&[("first", 1), ("rows[0]", 2)]));
    world.finish("first");
    assert_eq!(attempts(&world), named(&[("other", 1), ("rows[0]", 2)]));
}

#[test]
fn a_map_that_fails_takes_nobody_else_out_of_the_line() {
    let other = Task { name: "other".into(), outputs: vec!["other".into()], ..rows(mapped(of(1))) };
    let late = Task { total_timeout: Some(Duration::from_secs(1)), ..rows(mapped(of(1))) };
    let mut definition = pipeline(vec![other, late]);
    definition.max_parallel = NonZeroU32::new(1);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
    world.start();
    assert_eq!(attempts(&world), named(&[("other[0]", 1)]));
    world.advance_timers();
    for step in ["other[0]", "other[1]", "other[2]"] {
        world.finish(step);
    }
    assert!(world.run().status().is_terminal(), "{:?}", world.run().view());
}

#[test]
fn a_failed_item_does_to_its_map_what_the_map_says() {
    for (rule, value) in [(OnItemError::Skip, json!([0, 20])), (OnItemError::Collect, json!([0, null, 20]))] {
        let mut world = world(MapSpec { on_item_error: rule, ..mapped(of(3)) }, 3);
        let mut work = world.work("rows[0]");
        let mut outcomes = values(&work);
        outcomes[1] = failed();
        world.report_chunk(&work, outcomes);
        assert_eq!(world.run().result().unwrap()["rows"], value, "{rule:?}");
        assert!(work.next_item(Some(&Failure::permanent("no"))), "the rest is wanted");
    }
    let mut world = world(mapped(of(2)), 6);
    let mut work = world.work("rows[2]");
    assert!(!work.clone().next_item(Some(&Failure::permanent("no"))), "the rest is not wanted");
    assert!(work.next_item(None));
    let work = world.work("rows[2]");
    world.report_chunk(&work, vec![failed()]);
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(
        world.cancelled(),
        ["rows[4]", "rows[0]"],
        "each chunk is stopped once, and not the one that is over"
    );
    let page = world.run().items("rows", ItemFilter { limit: 9, ..ItemFilter::default() }).unwrap();
    assert_eq!(page.counts, [("cancelled", 5), ("failed", 1)].into_iter().collect());
}

#[test]
fn what_a_report_does_not_tell_is_begun_anew() {
    let mut world = world(mapped(of(4)), 4);
    let work = world.work("rows[0]");
    world.report_chunk(&work, values(&work).into_iter().take(2).collect());
    assert_eq!(attempts(&world), named(&[("rows[2]", 2)]));
    let seq = world.run().seq();
    world.report_chunk(&work, vec![failed(), failed(), failed(), failed()]);
    assert_eq!(world.run().seq(), seq, "what is over changes nothing");
    finish(&mut world, "rows[2]");
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [0, 10, 20, 30]}));
}

#[test]
fn what_a_report_does_not_tell_waits_while_the_run_is_paused() {
    for crash in [false, true] {
        let mut world = world(mapped(of(4)), 6);
        finish(&mut world, "rows[4]");
        let work = world.work("rows[0]");
        world.input(Input::Pause).unwrap();
        world.report_chunk(&work, values(&work).into_iter().take(2).collect());
        assert_eq!(attempts(&world), [], "nothing new is started");
        let seq = world.run().seq();
        world.report_chunk(&work, values(&work));
        assert_eq!(world.run().seq(), seq, "a report that comes twice changes nothing");
        if crash {
            world.crash();
        }
        world.input(Input::Resume).unwrap();
        assert_eq!(attempts(&world), named(&[("rows[2]", 2)]));
        finish(&mut world, "rows[2]");
        assert_eq!(**world.run().result().unwrap(), json!({"rows": [0, 10, 20, 30, 40, 50]}));
    }
    let mut world = world(mapped(of(4)), 4);
    let work = world.work("rows[0]");
    world.input(Input::Pause).unwrap();
    world.report_chunk(&work, values(&work).into_iter().take(2).collect());
    world.input(Input::Cancel { reason: "enough".into() }).unwrap();
    assert_eq!(world.cancelled(), [] as [&str; 0], "nothing is under way that could be stopped");
    assert_eq!(world.run().status(), RunStatus::Cancelled);
}

#[test]
fn a_chunk_is_taken_up_again_as_one() {
    let mut world = world(mapped(of(3)), 6);
    finish(&mut world, "rows[0]");
    world.crash();
    assert_eq!(attempts(&world), named(&[("rows[3]", 3)]));
    assert!(world.works().all(|work| work.members().all(|(_, attempt)| attempt == 2)));
    finish(&mut world, "rows[3]");
    assert_eq!(world.run().status(), RunStatus::Completed);
}

#[test]
fn the_limit_of_an_attempt_counts_for_each_item_and_ends_the_chunk() {
    let mut definition =
        pipeline(vec![rows(MapSpec { on_item_error: OnItemError::Collect, ..mapped(of(3)) })]);
    let timeout = Some(Duration::from_secs(10));
    definition.tasks[0] = Task { timeout, ..Task::clone(&definition.tasks[0]) }.into();
    let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
    world.start();
    let work = world.work("rows[0]");
    world.input(Input::Began { step_run: work.step_run, attempt: work.attempt }).unwrap();
    assert_eq!(world.advance_timers(), [Duration::from_secs(35)], "and five seconds more");
    assert_eq!(world.cancelled(), ["rows[0]"]);
    assert_eq!(world.run().result().unwrap()["rows"], json!([null, null, null]));
    let page = world.run().items("rows", ItemFilter { limit: 9, ..ItemFilter::default() }).unwrap();
    assert_eq!(page.counts, [("timed_out", 3)].into_iter().collect());
}

#[test]
fn a_size_that_is_not_given_follows_from_the_number_of_items_and_the_width() {
    for (items, width, size) in [
        (0, None, 1),
        (63, None, 1),
        (65, None, 2),
        (6400, None, 100),
        (100, Some(1), 25),
        (1_000_000, Some(2), 1000),
    ] {
        assert_eq!(Chunk::Auto.size(items, width), size, "{items} {width:?}");
    }
    let spec = MapSpec { max_parallel: NonZeroU32::new(2), ..mapped(Some(Chunk::Auto)) };
    assert_eq!(attempts(&world(spec, 24)), named(&[("rows[0]", 3), ("rows[3]", 3)]));
}

fn folded(size: u32) -> Pipeline {
    let reduce = ReduceSpec {
        over: "list".into(),
        item: "x".into(),
        accumulator: "acc".into(),
        initial: json!(100),
        chunk: NonZeroU32::new(size),
        body: Box::new(expr("acc * 2 + x").into()),
    };
    let mut sum = task("sum", TaskKind::Reduce(reduce));
    sum.inputs = vec![TaskInput::required("list")];
    pipeline(vec![sum])
}

#[test]
fn a_reduction_takes_several_items_in_one_attempt() {
    let mut world = World::new(folded(2), json!({"list": [1, 2, 3]}));
    world.start();
    let fold = |world: &World, step: &str| {
        let work = world.work(step);
        let fold = work.fold.unwrap();
        assert!(work.inputs.get("x").is_none(), "the items come by themselves");
        let items: Vec<Value> = fold.items.iter().map(|item| Value::clone(item)).collect();
        (Value::clone(work.inputs.get("acc").unwrap()), items, (fold.item, fold.accumulator))
    };
    let shown = format!("{:?}", world.work("sum[0]").fold.unwrap());
    assert_eq!(shown, r#"Fold { item: "x", accumulator: "acc", items: 2 }"#, "without the items");
    let names = ("x".into(), "acc".into());
    assert_eq!(fold(&world, "sum[0]"), (json!(100), vec![json!(1), json!(2)], names));
    let work = world.work("sum[0]");
    world.report(&work, Outcome::Completed(json!(404).into()));
    assert_eq!(fold(&world, "sum[1]").0, json!(404), "each chunk begins with what the one before came to");
    assert_eq!(fold(&world, "sum[1]").1, [json!(3)]);
    world.crash();
    assert_eq!(fold(&world, "sum[1]").0, json!(404));
    let work = world.work("sum[1]");
    world.report(&work, Outcome::Completed(json!(811).into()));
    assert_eq!(**world.run().result().unwrap(), json!({"sum": 811}));
    let states: Vec<_> = world.run().step_states().collect();
    assert_eq!(states, [StepStatus::Completed]);

    let mut empty = World::new(folded(2), json!({"list": []}));
    empty.start();
    assert_eq!(**empty.run().result().unwrap(), json!({"sum": 100}));
}
