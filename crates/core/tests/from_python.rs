//! The guide for those who come from the Python library: its snippets load, and nothing that library documents is left out.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;
use taskiq_flow_core::plan::Plan;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/from-python.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_snippet_is_a_pipeline() {
    let page = page();
    let snippets: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(snippets.len() >= 6);
    for snippet in snippets {
        let loaded =
            load_text("from-python.md", snippet, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
        for pipeline in loaded {
            Plan::new(Arc::new(pipeline)).unwrap_or_else(|errors| panic!("{snippet}: {errors:?}"));
        }
    }
}

/// What the Python library documents, by the names its users know.
const DOCUMENTED: &[&str] = &[
    "call_next",
    "call_after",
    "param_name",
    "map(",
    "skip_errors",
    "check_interval",
    "output_name",
    "filter",
    "group(",
    "ReduceStep",
    "BranchStep",
    "ConditionStep",
    "IfStep",
    "with_tracking",
    "with_hooks",
    "with_options",
    "with_retry",
    "with_timeout",
    "TimeoutStep",
    "retry_delay",
    "on_error(",
    "on_failure",
    "PipelineContext",
    "with_context",
    "AbortPipeline",
    "partial_results",
    "failed_step",
    "kiq()",
    "is_finished",
    "get_status",
    "dumpb",
    "loadb",
    "register_pipeline",
    "unregister_pipeline",
    "AbstractStep",
    "StepError",
    "MappingError",
    "FilterError",
    "TaskiqFlowError",
    "CycleError",
    "TaskNotFoundError",
    "InvalidOutputError",
    "ConfigurationError",
    "TrackingError",
    "from_tasks",
    "add_dataflow_task",
    "add_task",
    "kiq_dataflow",
    "@pipeline_task(",
    "max_retry_time",
    "resources",
    "TaskResourceProfile",
    "pipeline_task_multi_output",
    "analyze_missing_dependencies",
    "resolve_task_dependencies",
    "validate_dag",
    "validate_pipeline_outputs",
    "get_pipeline_metadata",
    "is_pipeline_task",
    "get_task_outputs",
    "get_task_inputs",
    "get_all_pipeline_outputs",
    "get_task_by_output",
    "TaskInfo",
    "register_task_from_object",
    "DataflowRegistry",
    "DataCache",
    "topological_sort",
    "compute_levels",
    "get_parallel_levels",
    "get_ready_tasks",
    "networkx",
    "kiq_map_reduce",
    "kiq_map_reduce_advanced",
    "kiq_map_sweep",
    "schedule_with_cron",
    "schedule_with_interval",
    "schedule_with_labels",
    "visualize_dot",
    "print_dag",
    "DAGVisualizer",
    "MermaidGenerator",
    "ExecutionEngine",
    "fail_fast",
    "continue_on_error",
    "skip_failed",
    "error_mode",
    "error_callback",
    "on_step_complete",
    "set_max_parallel_tasks",
    "resource_aware",
    "adaptive_parallelism",
    "ResourceAwareExecutor",
    "ResourceAwareWorkerPool",
    "CPUProfile",
    "RAMProfile",
    "execute_async",
    "success_rate",
    "MapResult",
    "progress_callback",
    "ChunkConfig",
    "reduce_chunk_size",
    "RetryPolicy",
    "calculate_exponential_backoff_delay",
    "PipelineRetryMiddleware",
    "get_retry_state",
    "retry_on",
    "RetryException",
    "DLQManager",
    "dlq_queue",
    "CacheMiddleware",
    "get_or_create",
    "cache_ttl",
    "cache_errors",
    "get_stats",
    "invalidate",
    "StorageAdapterFactory",
    "TrackingStorageFactory",
    "StorageMiddleware",
    "StorageEntry",
    "cleanup_older_than",
    "max_history",
    "max_records",
    "dumps_scientific",
    "completed_at",
    "step_name",
    "retry_count",
    "pipeline_type",
    "list_recent",
    "status_filter",
    "get_history",
    "get_metrics",
    "TrackingMetrics",
    "add_listener",
    "PipelineScheduler",
    "schedule_at",
    "schedule_interval",
    "every_minute",
    "in_seconds",
    "jitter",
    "start_date",
    "end_date",
    "misfire_grace_time",
    "coalesce",
    "max_instances",
    "list_jobs",
    "get_job",
    "modify_job",
    "reschedule_job",
    "pause_job",
    "resume_job",
    "remove_job",
    "job_id",
    "pipeline_executions",
    "get_execution_history",
    "LabelBasedScheduler",
    "RetryScheduledEvent",
    "RetryExecutedEvent",
    "MetricRecordEvent",
    "CriticalPathChangedEvent",
    "wait_time",
    "EventFilter",
    "filter_fn",
    "http_stream",
    "redis_pubsub",
    "TrackingEventBroadcaster",
    "create_visualization_api",
    "NiceGUI",
    "renderer registry",
    "Profiler",
    "generate_flamegraph",
    "setup_logging",
    "TaskiqFlowConfig",
    "middleware",
];

#[test]
fn everything_that_the_python_library_documents_has_a_row_with_an_answer() {
    let page = page();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Python"))
        // A bar within code is written `\|`.
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for name in DOCUMENTED {
        assert!(rows.iter().any(|row| row[0].contains(name)), "no row for {name}");
    }
    for row in rows {
        assert_eq!(row.len(), 3, "{row:?}");
        assert!(["works", "differs", "not yet"].contains(&row[1]), "{row:?}");
        assert!(row[1] == "not yet" || !row[2].is_empty(), "it does not say how or why: {row:?}");
    }
}
