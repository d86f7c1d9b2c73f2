//! What tasks are said to have returned: nothing is carried out, so values have the shape that others need of them.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::{Body, Pipeline, Task, TaskKind};
use taskiq_flow_core::expr::Expr;
use taskiq_flow_core::run::Work;

use crate::random::Random;

/// The most items of a list.
const ITEMS: usize = 4;
/// A list within a list within a list, for maps within maps.
const DEPTH: usize = 3;

/// Names whose values must be lists.
#[derive(Debug, Default)]
pub(crate) struct Lists(HashSet<String>);

impl Lists {
    /// The names over which a map, filter or reduce of the pipeline goes, as they are called outside their tasks too.
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let mut names = HashSet::new();
        for task in &pipeline.tasks {
            let mut within = HashSet::new();
            iterated(&task.body, &mut within);
            let sources = task.inputs.iter().filter(|input| within.contains(&input.name));
            names.extend(sources.map(|input| input.source.clone()));
            names.extend(within);
        }
        Self(names)
    }

    /// A value for an input of the pipeline.
    pub(crate) fn parameter(&self, name: &str, random: &mut Random) -> Value {
        value(self.0.contains(name), random)
    }

    /// A value that the attempt may have come to.
    pub(crate) fn result(&self, work: &Work, random: &mut Random) -> Value {
        let has = |name: &String| self.0.contains(name);
        if *work.step != *work.task().name {
            return value(makes_lists(&work.task().body, &self.0), random);
        }
        match work.task().outputs.as_slice() {
            [only] => value(has(only), random),
            several => several
                .iter()
                .map(|name| (name.clone(), value(has(name), random)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// The pipeline with every `when:` decided by the seed: with values that are made up its conditions say nothing, and
/// this way both ways are tried.
pub(crate) fn decide_conditions(pipeline: &Arc<Pipeline>, random: &mut Random) -> Arc<Pipeline> {
    if pipeline.tasks.iter().all(|task| task.when.is_none()) {
        return Arc::clone(pipeline);
    }
    let mut decided = Pipeline::clone(pipeline);
    for task in decided.tasks.iter_mut().filter(|task| task.when.is_some()) {
        let source = if random.permille(750) { "true" } else { "false" };
        let mut changed = Task::clone(task);
        // Both are expressions; were they not, the condition would stay as it is.
        changed.when = Expr::compile(source).ok().or(changed.when);
        *task = Arc::new(changed);
    }
    Arc::new(decided)
}

/// The signals that some step, or item of a step, of the task waits for.
pub(crate) fn awaited(body: &Body) -> Vec<&str> {
    let inner = body.kind.inner();
    body.kind.awaited_signal().into_iter().chain(inner.into_iter().flat_map(awaited)).collect()
}

fn iterated(body: &Body, names: &mut HashSet<String>) {
    match &body.kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => drop(names.insert(spec.over.clone())),
        TaskKind::Reduce(spec) => drop(names.insert(spec.over.clone())),
        _ => {}
    }
    body.kind.inner().into_iter().for_each(|inner| iterated(inner, names));
}

/// Whether what an item comes to is gone over again: as the accumulator of a reduce.
fn makes_lists(body: &Body, lists: &HashSet<String>) -> bool {
    let own = matches!(&body.kind, TaskKind::Reduce(spec) if lists.contains(&spec.accumulator));
    own || body.kind.inner().into_iter().any(|inner| makes_lists(inner, lists))
}

fn value(list: bool, random: &mut Random) -> Value {
    if list { nested(DEPTH, random) } else { json!(random.below(100)) }
}

fn nested(depth: usize, random: &mut Random) -> Value {
    if depth == 0 {
        return json!(random.below(100));
    }
    // Long lists of lists would be made of very many items.
    let most = if depth == DEPTH { ITEMS } else { 2 };
    (0..random.below(most + 1)).map(|_| nested(depth - 1, random)).collect()
}
