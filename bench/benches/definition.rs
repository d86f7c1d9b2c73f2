//! From the text of a pipeline file to the answers about its graph. No durability is involved.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use taskiq_flow_bench::{layered_yaml, mistaken_yaml};
use taskiq_flow_core::dag::{Cost, DagFormat, median};
use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;
use taskiq_flow_core::plan::Plan;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn load(text: &str) -> Plan {
    let Ok(mut pipelines) = load_text("bench.yaml", text, Format::Yaml) else {
        panic!("the input is made to be right")
    };
    plan(Arc::new(pipelines.remove(0)))
}

fn plan(pipeline: Arc<Pipeline>) -> Plan {
    let Ok(plan) = Plan::new(pipeline) else { panic!("the input is made to be right") };
    plan
}

fn definition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("definition");
    group.sample_size(20);
    for tasks in [100, 1_000, 10_000, 100_000] {
        let text = layered_yaml(tasks);
        group.bench_with_input(BenchmarkId::new("load", tasks), &text, |b, text| {
            b.iter(|| load(black_box(text)))
        });
        let pipeline = Arc::clone(load(&text).pipeline());
        group.bench_with_input(
            BenchmarkId::new("dag, levels, critical path, json", tasks),
            &pipeline,
            |b, pipeline| {
                // A plan keeps its graph: each turn has a new one.
                b.iter_batched(
                    || plan(Arc::clone(pipeline)),
                    |plan| {
                        let dag = black_box(&plan).dag();
                        let answers = (dag.levels().len(), dag.critical_path(None).path.len());
                        (answers, dag.render(DagFormat::Json, &[]), plan)
                    },
                    BatchSize::PerIteration,
                );
            },
        );
    }
    for tasks in [100, 10_000, 100_000] {
        let plan = load(&layered_yaml(tasks));
        let dag = plan.dag();
        let costs: Vec<Cost> = (0..tasks as u64)
            .map(|task| Cost::of_work((0..20).map(|run| 10 + task % 7 + run % 5).collect()))
            .collect();
        group.bench_function(BenchmarkId::new("forecast", tasks), |b| {
            b.iter(|| dag.forecast(black_box(&costs), &[], NonZeroU32::new(8)))
        });
        let weights: Vec<u64> = costs.iter().map(|cost| median(cost.samples.clone())).collect();
        group.bench_function(BenchmarkId::new("critical path by duration, speed up", tasks), |b| {
            b.iter(|| (dag.critical_path(Some(black_box(&weights))), dag.speed_up(&weights)))
        });
        let jobs = dag.typical_jobs(&costs, &[]);
        group.bench_function(BenchmarkId::new("speed up with 8 workers", tasks), |b| {
            b.iter(|| dag.speed_up_with(black_box(&jobs), NonZeroU32::new(8)))
        });
    }
    let mistaken = mistaken_yaml(3_000);
    group.bench_with_input(BenchmarkId::new("mistakes", 3_000), &mistaken, |b, text| {
        b.iter(|| load_text("bench.yaml", black_box(text), Format::Yaml).is_err())
    });
    group.finish();
}

criterion_group!(benches, definition);
criterion_main!(benches);
