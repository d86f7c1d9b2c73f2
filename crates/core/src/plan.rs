//! The wiring of a pipeline: which step's output goes where. Made once for each version of a definition.
//!
//! A task's inputs are names. A name that another task outputs makes an edge, any other is an external parameter.

mod body;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dag::{Dag, DagEdge, DagNode, find_cycle};
use crate::definition::{FieldError, Input, Pipeline, Style, Task};

pub use body::PlanBody;
pub(crate) use body::{Iteration, Slot, Traits};

/// How many mistakes come with the nearest known name: each costs a look at all names of the pipeline.
const SUGGESTIONS: usize = 100;

/// A pipeline with its names resolved.
#[derive(Debug)]
pub struct Plan {
    pipeline: Arc<Pipeline>,
    steps: Vec<PlanStep>,
    bodies: Vec<Arc<PlanBody>>,
    /// Those of the bodies.
    traits: Vec<Traits>,
    outputs: Vec<(Arc<str>, Source)>,
    parameters: Vec<String>,
    /// Where none is declared: those without which a run cannot be.
    required: Vec<String>,
    /// Made when it is first asked for.
    dag: OnceLock<Dag>,
}

/// One step and its place in the graph.
#[derive(Debug)]
pub struct PlanStep {
    /// The task it is a step for.
    pub task: Arc<Task>,
    /// The task's name.
    pub name: Arc<str>,
    /// What it is called in the events of every run.
    pub(crate) names: Arc<StepNames>,
    /// Where each input comes from.
    pub wires: Vec<Wire>,
    /// The steps that must have been completed before it and make none of its inputs.
    pub after: Vec<u32>,
    /// The steps that need this one, each once, ascending.
    pub dependents: Vec<u32>,
    /// How many steps this one needs, each once.
    pub dependencies: u32,
    /// The place of the body that undoes it.
    pub(crate) undo: Option<u32>,
    /// The names of what its body is given, each once.
    slot_names: Arc<[Arc<str>]>,
    /// Where that comes from, in the same order.
    slots: Box<[Slot]>,
}

/// What a step run is called. The fields are part of every event of a step, as watchers see it and as logs keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNames {
    /// Its name: the task's, with the item's place or name behind it, such as `square[3]`.
    pub step: Arc<str>,
    /// The task's name.
    pub task_name: Arc<str>,
}

/// Where an input comes from.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The name under which the task sees it.
    pub name: Arc<str>,
    /// Its origin.
    pub source: Source,
    /// Whether the task does without it.
    pub optional: bool,
}

/// The origin of a value.
#[derive(Debug, Clone)]
pub enum Source {
    /// An external parameter.
    Parameter {
        /// Its name.
        name: Arc<str>,
        /// Its place among the [parameters](Plan::parameters) of the plan.
        place: u32,
    },
    /// The value of a step, or one key of it where the task has several outputs.
    Output {
        /// The step's index.
        step: u32,
        /// Which of the task's outputs; none: the whole value, of a task with one output.
        part: Option<Part>,
    },
    /// What went wrong with the items of a step that goes on past them.
    ItemErrors {
        /// The step's index.
        step: u32,
    },
}

impl Source {
    /// The step it comes from; none: from outside.
    pub fn step(&self) -> Option<u32> {
        match self {
            Self::Parameter { .. } => None,
            Self::Output { step, .. } | Self::ItemErrors { step } => Some(*step),
        }
    }
}

/// One of several outputs of a task.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name: the key in the step's value.
    pub key: Arc<str>,
    /// Its place among the task's outputs.
    pub place: u32,
}

/// A mistake in the wiring of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WiringError {
    /// The task at fault, by index; none: the pipeline.
    pub task: Option<usize>,
    /// The field at fault.
    pub field: &'static str,
    /// The name in that field.
    pub name: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Plan {
    /// Resolves the names of a pipeline.
    ///
    /// # Errors
    /// Every mistake found: two producers of one output, an output that hides a parameter, an undeclared
    /// parameter, a cycle with its path, an entry of `outputs:` that nobody makes, two tasks of one name, none at all.
    pub fn new(pipeline: Arc<Pipeline>) -> Result<Self, Vec<WiringError>> {
        let mut errors = Vec::new();
        let producers = producers(&pipeline, &mut errors);
        let mut steps = Vec::with_capacity(pipeline.tasks.len());
        let mut parameters: Vec<String> = pipeline.inputs.names().map(str::to_owned).collect();
        let mut places: HashMap<&str, u32> =
            pipeline.inputs.names().enumerate().map(|(place, name)| (name, index(place))).collect();
        for (index, task) in pipeline.tasks.iter().enumerate() {
            let mut wires = Vec::with_capacity(task.inputs.len());
            for input in &task.inputs {
                let source = match producers.get(input.source.as_str()) {
                    Some(producer) => producer.source(),
                    None => {
                        let name = input.source.as_str();
                        let place = places.get(name).copied().unwrap_or_else(|| {
                            if pipeline.inputs.declared() {
                                let suggest = errors.len() < SUGGESTIONS;
                                errors.push(undeclared(&pipeline, index, input, suggest));
                                return 0;
                            }
                            let place = self::index(parameters.len());
                            parameters.push(name.to_owned());
                            places.insert(name, place);
                            place
                        });
                        Source::Parameter { name: name.into(), place }
                    }
                };
                wires.push(Wire { name: input.name.as_str().into(), source, optional: input.optional });
            }
            let name: Arc<str> = task.name.as_str().into();
            let names = StepNames { step: Arc::clone(&name), task_name: Arc::clone(&name) };
            steps.push(PlanStep {
                task: Arc::clone(task),
                name,
                names: Arc::new(names),
                wires,
                after: Vec::new(),
                dependents: Vec::new(),
                dependencies: 0,
                undo: None,
                slot_names: Arc::default(),
                slots: Box::default(),
            });
        }
        order(&pipeline, &mut steps, &mut errors);
        link(&mut steps);
        if let Some(cycle) = find_cycle(steps.len(), &edges_of(&steps)) {
            errors.push(cycle_error(&pipeline, &cycle));
        }
        let outputs = result_of(&pipeline, &producers, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let bodies = body::table(&steps);
        for (step, body) in steps.iter_mut().zip(&bodies) {
            (step.slot_names, step.slots) = body::slots(&step.wires, body);
        }
        for (place, body) in bodies.iter().enumerate().filter(|(_, body)| body.is_undo_root()) {
            steps[body.step_index() as usize].undo = Some(index(place));
        }
        let required = required_of(&pipeline, &steps);
        let traits = bodies.iter().map(|body| body.traits()).collect();
        Ok(Self { pipeline, steps, bodies, traits, outputs, parameters, required, dag: OnceLock::new() })
    }

    /// The definition.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// A step as its author wrote it: its entry in the source of the definition.
    pub fn source_of(&self, step: u32) -> Option<&Value> {
        let list = match self.pipeline.style {
            Style::Dataflow => "tasks",
            Style::Chained => "steps",
        };
        self.pipeline.source.get(list)?.get(self.steps.get(step as usize)?.task.entry)
    }

    /// The steps, by index.
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps
    }

    /// Every body of the pipeline: those of the steps, by index, then those inside them.
    pub fn bodies(&self) -> &[Arc<PlanBody>] {
        &self.bodies
    }

    /// What runs ask of the bodies, by their place.
    pub(crate) fn traits(&self) -> &[Traits] {
        &self.traits
    }

    /// The names of the external parameters: the declared ones first, in the order of the file.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Checks the parameters of a run and fills in defaults.
    ///
    /// # Errors
    /// Every missing, unknown or ill-typed parameter.
    pub fn check_parameters(&self, given: Map<String, Value>) -> Result<Map<String, Value>, Vec<FieldError>> {
        self.pipeline.inputs.check(&self.parameters, &self.required, given)
    }

    /// The names and origins of the result's fields. A chained pipeline has one: its last step.
    pub fn outputs(&self) -> &[(Arc<str>, Source)] {
        &self.outputs
    }

    /// Whether any of its tasks can be undone.
    pub fn compensates(&self) -> bool {
        self.steps.iter().any(|step| step.undo.is_some())
    }

    /// Whether another task, or the result, has the errors of a step's items.
    pub fn uses_errors_of(&self, step: u32) -> bool {
        let has = |source: &Source| matches!(source, Source::ItemErrors { step: of } if *of == step);
        let wires = self.steps.iter().flat_map(|step| &step.wires).map(|wire| &wire.source);
        wires.chain(self.outputs.iter().map(|(_, source)| source)).any(has)
    }

    /// These steps and all that need one of them, however far, as a mark for each step.
    pub fn with_dependents(&self, steps: impl IntoIterator<Item = u32>) -> Vec<bool> {
        let mut marked = vec![false; self.steps.len()];
        let mut stack: Vec<u32> = steps.into_iter().collect();
        while let Some(step) = stack.pop() {
            if !std::mem::replace(&mut marked[step as usize], true) {
                stack.extend(&self.steps[step as usize].dependents);
            }
        }
        marked
    }

    /// The graph of the steps, for analysis and drawing. Made at the first call, and kept.
    pub fn dag(&self) -> &Dag {
        self.dag.get_or_init(|| self.draw())
    }

    fn draw(&self) -> Dag {
        let nodes = self.steps.iter().map(|step| DagNode {
            id: step.task.name.clone(),
            label: step.task.name.clone(),
            kind: step.task.body.kind.name().to_owned(),
            inputs: step.task.inputs.iter().map(|input| input.source.clone()).collect(),
            outputs: step.task.outputs.clone(),
        });
        let mut edges = Vec::new();
        for (target, step) in self.steps.iter().enumerate() {
            for wire in &step.wires {
                let Some(source) = wire.source.step() else { continue };
                let task = &self.steps[source as usize].task;
                let data = match &wire.source {
                    Source::Output { part: Some(part), .. } => part.key.to_string(),
                    Source::ItemErrors { .. } => task.errors_output().unwrap_or_default(),
                    _ => task.outputs.first().cloned().unwrap_or_default(),
                };
                edges.push(DagEdge { source, target: index(target), data });
            }
            let order = step.after.iter().map(|source| (*source, String::new()));
            edges.extend(order.map(|(source, data)| DagEdge { source, target: index(target), data }));
        }
        // The constructor has refused every cycle, so this cannot fail; an empty graph is the honest answer if it did.
        Dag::new(nodes.collect(), edges).unwrap_or_default()
    }
}

struct Producer {
    step: u32,
    part: Option<Part>,
    /// It makes the list of errors of its items.
    errors: bool,
}

impl Producer {
    fn source(&self) -> Source {
        match self.errors {
            true => Source::ItemErrors { step: self.step },
            false => Source::Output { step: self.step, part: self.part.clone() },
        }
    }
}

impl PlanStep {
    /// The names of what its body is given, each once.
    pub(crate) fn slot_names(&self) -> &Arc<[Arc<str>]> {
        &self.slot_names
    }

    /// Where that comes from, in the same order.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn producers<'a>(pipeline: &'a Pipeline, errors: &mut Vec<WiringError>) -> HashMap<Cow<'a, str>, Producer> {
    let mut producers: HashMap<Cow<'_, str>, Producer> = HashMap::with_capacity(pipeline.tasks.len());
    let mut names: HashMap<&str, usize> = HashMap::with_capacity(pipeline.tasks.len());
    if pipeline.tasks.is_empty() {
        errors.push(WiringError {
            task: None,
            field: "tasks",
            name: None,
            message: format!("pipeline `{}` has no tasks", pipeline.id),
            help: "give it at least one entry under `tasks:` or `steps:`".to_owned(),
        });
    }
    for (position, task) in pipeline.tasks.iter().enumerate() {
        if names.insert(&task.name, position).is_some() {
            errors.push(WiringError {
                task: Some(position),
                field: "name",
                name: Some(task.name.clone()),
                message: format!("two tasks are called `{}`", task.name),
                help: "give one of them another name".to_owned(),
            });
        }
        let own = task.outputs.iter().map(|output| (Cow::Borrowed(output.as_str()), false));
        let errors_output = task.errors_output().map(|output| (Cow::Owned(output), true));
        for (place, (output, of_errors)) in own.chain(errors_output).enumerate() {
            let several = task.outputs.len() > 1 && !of_errors;
            let part = several.then(|| Part { key: (*output).into(), place: index(place) });
            if pipeline.inputs.contains(&output) {
                errors.push(WiringError {
                    task: Some(position),
                    field: "output",
                    name: Some(output.to_string()),
                    message: format!("output `{output}` of task `{}` has the name of a parameter", task.name),
                    help: format!("rename the output, or remove `{output}` from the pipeline's `inputs:`"),
                });
            }
            let made = Producer { step: index(position), part, errors: of_errors };
            if let Some(first) = producers.insert(output.clone(), made) {
                let other = &pipeline.tasks[first.step as usize].name;
                errors.push(WiringError {
                    task: Some(position),
                    field: "output",
                    name: Some(output.to_string()),
                    message: format!("output `{output}` is made by two tasks: `{other}` and `{}`", task.name),
                    help: "give one of them another output name".to_owned(),
                });
            }
        }
    }
    producers
}

fn undeclared(pipeline: &Pipeline, task: usize, input: &Input, suggest: bool) -> WiringError {
    let name = input.source.as_str();
    let known = pipeline.tasks.iter().flat_map(|task| &task.outputs).map(String::as_str);
    let known = known.chain(pipeline.inputs.names()).filter(|_| suggest);
    let nearest = crate::diagnostic::nearest(name, known);
    let help = match nearest {
        Some(near) => {
            format!("did you mean `{near}`? Otherwise declare `{name}` under the pipeline's `inputs:`")
        }
        None => format!("declare `{name}` under the pipeline's `inputs:`, or let a task output it"),
    };
    WiringError {
        task: Some(task),
        field: if input.optional { "optional_inputs" } else { "inputs" },
        name: Some(name.to_owned()),
        message: format!(
            "task `{}` needs `{name}`, which is neither a declared parameter nor the output of a task",
            pipeline.tasks[task].name
        ),
        help,
    }
}

/// Finds the steps that tasks name under `after`.
fn order(pipeline: &Pipeline, steps: &mut [PlanStep], errors: &mut Vec<WiringError>) {
    if pipeline.tasks.iter().all(|task| task.after.is_empty()) {
        return;
    }
    let names: HashMap<&str, u32> =
        pipeline.tasks.iter().zip(0..).map(|(task, place)| (task.name.as_str(), place)).collect();
    for (position, task) in pipeline.tasks.iter().enumerate() {
        for name in &task.after {
            if let Some(before) = names.get(name.as_str()) {
                let wired = steps[position].wires.iter().any(|wire| wire.source.step() == Some(*before));
                if !wired && !steps[position].after.contains(before) {
                    steps[position].after.push(*before);
                }
                continue;
            }
            let known = pipeline.tasks.iter().map(|task| task.name.as_str());
            let nearest = crate::diagnostic::nearest(name, known.filter(|_| errors.len() < SUGGESTIONS));
            errors.push(WiringError {
                task: Some(position),
                field: "after",
                name: Some(name.clone()),
                message: format!("task `{}` is to run after `{name}`, and there is no such task", task.name),
                help: match nearest {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a task of this pipeline; an output goes into `inputs:`".to_owned(),
                },
            });
        }
    }
}

fn link(steps: &mut [PlanStep]) {
    for target in 0..steps.len() {
        let mut sources: Vec<u32> =
            steps[target].wires.iter().filter_map(|wire| wire.source.step()).collect();
        sources.extend(&steps[target].after);
        sources.sort_unstable();
        sources.dedup();
        steps[target].dependencies = index(sources.len());
        for source in sources {
            steps[source as usize].dependents.push(index(target));
        }
    }
}

fn required_of(pipeline: &Pipeline, steps: &[PlanStep]) -> Vec<String> {
    let mut seen = HashSet::new();
    let wires = steps.iter().flat_map(|step| &step.wires).filter(|wire| !wire.optional);
    let names = wires.filter_map(|wire| match &wire.source {
        Source::Parameter { name, .. } if !pipeline.inputs.declared() => Some(name),
        _ => None,
    });
    names.filter(|name| seen.insert(Arc::clone(name))).map(ToString::to_string).collect()
}

fn edges_of(steps: &[PlanStep]) -> Vec<(u32, u32)> {
    let edges = |(source, step): (usize, &PlanStep)| {
        step.dependents.iter().map(|target| (index(source), *target)).collect::<Vec<_>>()
    };
    steps.iter().enumerate().flat_map(edges).collect()
}

fn cycle_error(pipeline: &Pipeline, cycle: &[u32]) -> WiringError {
    let name = |step: &u32| format!("`{}`", pipeline.tasks[*step as usize].name);
    let path: Vec<String> = cycle.iter().chain(cycle.first()).map(name).collect();
    let first = cycle.first().map(|step| *step as usize);
    WiringError {
        task: first,
        field: "inputs",
        name: None,
        message: format!("the tasks need each other in a circle: {}", path.join(" -> ")),
        help: "remove one of these inputs: a task can only use what was made before it".to_owned(),
    }
}

fn result_of(
    pipeline: &Pipeline,
    producers: &HashMap<Cow<'_, str>, Producer>,
    errors: &mut Vec<WiringError>,
) -> Vec<(Arc<str>, Source)> {
    if pipeline.style == Style::Chained {
        let last = pipeline.tasks.iter().rposition(|task| !task.keep).map(index);
        return last.map(|step| ("result".into(), Source::Output { step, part: None })).into_iter().collect();
    }
    let Some(names) = &pipeline.outputs else {
        let consumed: HashSet<&str> =
            pipeline.tasks.iter().flat_map(|task| &task.inputs).map(|input| input.source.as_str()).collect();
        let made = |task: &'_ Arc<Task>| {
            task.outputs.iter().cloned().chain(task.errors_output()).collect::<Vec<_>>()
        };
        let free = pipeline.tasks.iter().flat_map(made).filter(|output| !consumed.contains(output.as_str()));
        return free
            .filter_map(|name| Some((name.as_str().into(), producers.get(name.as_str())?.source())))
            .collect();
    };
    let mut outputs = Vec::with_capacity(names.len());
    for name in names {
        match producers.get(name.as_str()) {
            Some(producer) => outputs.push((name.as_str().into(), producer.source())),
            None => {
                let known = producers.keys().map(AsRef::as_ref).filter(|_| errors.len() < SUGGESTIONS);
                let nearest = crate::diagnostic::nearest(name, known);
                errors.push(WiringError {
                    task: None,
                    field: "outputs",
                    name: Some(name.clone()),
                    message: format!("no task makes the output `{name}`"),
                    help: match nearest {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "name an output of one of the tasks".to_owned(),
                    },
                });
            }
        }
    }
    outputs
}

/// Steps are counted in 32 bits; the loader and the builder refuse pipelines of more than 100,000 tasks.
pub fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
