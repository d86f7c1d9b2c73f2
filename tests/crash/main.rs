//! The crash matrix: the server is killed at each named place while it has work to do, started again, and nothing may be
//! lost, done twice after its end was durable, or stuck. The places are in `crates/engine/src/failpoint.rs`.
//!
//! `make test` kills twice at each place, `make crash-matrix` 50 times (or as often as `CRASH_KILLS` says).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod evidence;
mod load;
mod rounds;

use load::Load;
use rounds::matrix;

/// One test for each place: what keeps the server busy there, and the passings after which it is killed are 1 to `most`.
macro_rules! killed_at {
    ($($name:ident: $place:literal, $load:expr, $most:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                matrix($place, $load, $most).await;
            }
        )*
    };
}

killed_at! {
    before_a_new_run_is_written: "submit-before-write", Load::Work, 7;
    after_a_new_run_is_written: "submit-after-write", Load::Work, 7;
    before_a_start_is_written: "start-before-write", Load::Work, 7;
    after_a_start_is_written: "start-after-write", Load::Work, 7;
    before_an_attempt_is_handed_over: "dispatch-before-publish", Load::Work, 31;
    after_an_attempt_is_handed_over: "dispatch-after-publish", Load::Work, 31;
    before_the_end_of_an_attempt_is_written: "finish-before-write", Load::Work, 31;
    after_the_end_of_an_attempt_is_written: "finish-after-write", Load::Work, 31;
    before_a_retry_is_written: "retry-before-write", Load::Work, 7;
    after_a_retry_is_written: "retry-after-write", Load::Work, 7;
    before_the_end_of_a_run_is_written: "end-before-write", Load::Work, 7;
    after_the_end_of_a_run_is_written: "end-after-write", Load::Work, 7;
    before_a_cancel_is_written: "cancel-before-write", Load::Cancelled, 7;
    after_a_cancel_is_written: "cancel-after-write", Load::Cancelled, 7;
    before_a_signal_is_written: "signal-before-write", Load::Signalled, 7;
    after_a_signal_is_written: "signal-after-write", Load::Signalled, 7;
    after_an_inner_run_is_asked_for: "inner-before-wait", Load::Inner, 5;
    before_a_firing_is_noted: "firing-before-note", Load::Scheduled, 2;
    after_a_firing_is_noted: "firing-after-note", Load::Scheduled, 2;
    while_runs_are_claimed: "claim-before-rebuild", Load::Unfinished, 3;
    while_runs_are_taken_up: "claim-after-rebuild", Load::Unfinished, 3;
    while_old_runs_are_removed: "prune", Load::Aged, 2;
    before_the_end_of_a_chunk_is_written: "finish-before-write", Load::Chunked, 7;
    after_the_end_of_a_chunk_is_written: "finish-after-write", Load::Chunked, 7;
    after_an_instant_task_is_called: "instant-after-call", Load::Instant, 31;
    before_the_end_of_an_instant_task_is_written: "finish-before-write", Load::Instant, 31;
    after_the_end_of_an_instant_task_is_written: "finish-after-write", Load::Instant, 31;
    before_it_is_noted_what_came_of_a_delivery: "delivery-before-note", Load::Told, 7;
    after_it_is_noted_what_came_of_a_delivery: "delivery-after-note", Load::Told, 7;
}
