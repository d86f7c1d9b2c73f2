//! Runs played through: small cases by hand, and what holds for every graph.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::model::graphs;
use super::*;
use crate::dag::forecast::{MOST_ITEMS, ends_of};

fn workers(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

fn work(millis: u64) -> Job {
    Job::One { millis, occupies: true, running: false }
}

fn free(millis: u64) -> Job {
    Job::One { millis, occupies: false, running: false }
}

fn items(waiting: &[u64], at_once: u32) -> Job {
    Job::Items { running: Vec::new(), waiting: waiting.to_vec(), at_once: workers(at_once), occupies: true }
}

fn costs(samples: &[&[u64]]) -> Vec<Cost> {
    samples.iter().map(|samples| Cost::of_work(samples.to_vec())).collect()
}

#[test]
fn a_fan_on_two_workers_takes_its_halves() {
    // 0 -> 1..=4 -> 5: the four of 10, 20, 30 and 40 go to two workers as they are in line: 10+30 and 20+40.
    let jobs = [work(5), work(10), work(20), work(30), work(40), work(1)];
    let played = fan(4).schedule(&jobs, workers(2));
    assert_eq!(played.start_ms, [0, 5, 5, 15, 25, 65]);
    assert_eq!(played.finish_ms, [5, 15, 25, 45, 65, 66]);
    assert_eq!(played.makespan_ms, 66);
    // What the first worker does may be 20 later, what the second does decides.
    assert_eq!(played.slack_ms, [0, 20, 0, 20, 0, 0]);
    assert_eq!(fan(4).schedule(&jobs, workers(1)).makespan_ms, 106);
    assert_eq!(fan(4).schedule(&jobs, None).makespan_ms, 46);
    assert_eq!(fan(4).schedule(&jobs, None).slack_ms, [0, 30, 20, 10, 0, 0]);
}

#[test]
fn what_takes_no_worker_waits_for_none() {
    let jobs = [work(1), free(50), work(10), work(10), work(1)];
    let played = fan(3).schedule(&jobs, workers(1));
    assert_eq!(played.start_ms, [0, 1, 1, 11, 51]);
    assert_eq!(played.slack_ms, [0, 0, 30, 30, 0]);
}

#[test]
fn items_share_the_workers_and_their_step_ends_with_the_last() {
    let dag = numbered(3, [(0, 1), (1, 2)]);
    let played = dag.schedule(&[work(1), items(&[10; 6], 0), work(2)], workers(4));
    assert_eq!((played.start_ms, played.finish_ms), (vec![0, 1, 21], vec![1, 21, 23]));
    // Two at once although there are four workers.
    let played = dag.schedule(&[work(1), items(&[10, 20, 10, 10], 2), work(2)], workers(4));
    assert_eq!((played.start_ms, played.finish_ms), (vec![0, 1, 31], vec![1, 31, 33]));
    // 10, then 10, then 10 in one place, 20 in the other: that one alone may be late, by 10; the step by nothing.
    assert_eq!(played.slack_ms, [0, 0, 0]);
    let played = dag.schedule(&[work(1), items(&[], 0), work(2)], workers(4));
    assert_eq!(played.makespan_ms, 3);
    // Beside a longer step the one with items has slack.
    let beside = numbered(2, []);
    assert_eq!(beside.schedule(&[items(&[5, 5], 1), work(30)], None).slack_ms, [20, 0]);
}

#[test]
fn what_is_under_way_goes_on_and_what_has_ended_is_gone() {
    let left = |millis| Job::One { millis, occupies: true, running: true };
    let played = diamond().schedule(&[Job::Ended, left(7), work(10), work(2)], workers(1));
    assert_eq!((played.start_ms, played.makespan_ms), (vec![0, 0, 7, 17], 19));
    // Two of five items are under way and hold both workers; a third one starts when the first of them ends.
    let map = Job::Items { running: vec![3, 8], waiting: vec![5, 5, 5], at_once: None, occupies: true };
    let played = diamond().schedule(&[Job::Ended, map, Job::Ended, work(2)], workers(2));
    assert_eq!((played.finish_ms[1], played.makespan_ms), (13, 15));
    let all = diamond().schedule(&[Job::Ended, Job::Ended, Job::Ended, Job::Ended], workers(1));
    assert_eq!(all.makespan_ms, 0);
    // A step that was skipped although what it needs is still under way holds nobody up.
    let odd = diamond().schedule(&[left(4), Job::Ended, work(1), work(1)], None);
    assert_eq!(odd.makespan_ms, 6);
}

#[test]
fn a_forecast_has_the_spread_of_its_samples() {
    let dag = numbered(2, [(0, 1)]);
    let known = dag.forecast(&costs(&[&[10; 5], &[20; 5]]), &[], None);
    assert_eq!((known.median_ms, known.band_ms, known.draws), (30, Some((30, 30)), 200));
    // Nine times 10 and once 1,000: the band of two such steps does not hold every second tenth draw, about one in five
    // has one of the long ones.
    let spread: Vec<u64> = [[10; 9].as_slice(), &[1000]].concat();
    let forecast = dag.forecast(&costs(&[&spread, &spread]), &[], None);
    assert_eq!((forecast.median_ms, forecast.band_ms), (20, Some((20, 1010))));
    assert_eq!(forecast, dag.forecast(&costs(&[&spread, &spread]), &[], None), "the same each time");
    // Nothing is known: it takes no time.
    assert_eq!(dag.forecast(&[], &[], None).median_ms, 0);
}

#[test]
fn a_few_very_long_lists_are_not_drawn() {
    let dag = numbered(1, []);
    let of = |counts: &[u64]| {
        let items = ItemCost { samples: vec![1], counts: counts.to_vec(), at_once: None, occupies: true };
        dag.forecast(&[Cost { items: Some(items), ..Cost::default() }], &[], workers(1))
    };
    let long = [[1; 7].as_slice(), &[1_000_000; 2]].concat();
    let forecast = of(&long);
    assert_eq!((forecast.median_ms, forecast.band_ms, forecast.draws), (1, None, 0));
    assert_eq!(of(&[1, 1, 9]).draws, 200);
}

#[test]
fn no_forecast_has_more_items_than_a_run_may_have() {
    let dag = numbered(3, []);
    let items = ItemCost { samples: vec![1], counts: vec![1_000_000], at_once: None, occupies: true };
    let known = vec![Cost { items: Some(items), ..Cost::default() }; 3];
    let items_of = |jobs: &[Job]| {
        let items = jobs.iter().map(|job| match job {
            Job::Items { running, waiting, .. } => running.len() + waiting.len(),
            _ => 0,
        });
        items.sum::<usize>()
    };
    assert_eq!(items_of(&dag.typical_jobs(&known, &[])), MOST_ITEMS);
    let forecast = dag.forecast(&known, &[], workers(1));
    assert_eq!(forecast, Forecast { median_ms: MOST_ITEMS as u64, band_ms: None, draws: 0 });
    // Those of a run that is under way, too.
    let stages = [Stage::Items(vec![0, 0], 70_000), Stage::Waiting, Stage::Items(vec![0], 70_000)];
    assert_eq!(items_of(&dag.typical_jobs(&known, &stages)), MOST_ITEMS);
}

#[test]
fn draws_end_once_they_have_cost_what_they_may() {
    let of = |size: usize| ends_of(200, 1000, || (size, 7));
    assert_eq!((of(1).len(), of(5).len(), of(300).len(), of(5000).len()), (200, 200, 4, 1));
    let mut ends = [3, 1, 2].into_iter();
    assert_eq!(ends_of(3, 9, || (1, ends.next().unwrap())), [1, 2, 3], "in order");
}

#[test]
fn a_step_that_runs_for_long_is_measured_by_those_that_took_longer() {
    let dag = numbered(1, []);
    let known = costs(&[&[10, 10, 10, 100, 100, 100]]);
    let left = |for_ms| dag.forecast(&known, &[Stage::Running(for_ms)], None).band_ms;
    assert_eq!(left(0), Some((10, 100)));
    assert_eq!(left(40), Some((60, 60)));
    // Longer than ever: any moment now.
    assert_eq!(left(500), Some((0, 0)));
}

#[test]
fn items_are_drawn_by_their_number_and_their_durations() {
    let cost = Cost {
        items: Some(ItemCost { samples: vec![10], counts: vec![6], at_once: workers(2), occupies: true }),
        ..Cost::default()
    };
    let dag = numbered(1, []);
    let forecast = |stage: Stage| dag.forecast(std::slice::from_ref(&cost), &[stage], workers(9)).median_ms;
    assert_eq!(forecast(Stage::Waiting), 30);
    assert_eq!(forecast(Stage::Items(vec![4, 4], 1)), 16);
    assert_eq!(forecast(Stage::Items(vec![4], 0)), 6);
}

#[test]
fn large_graphs_are_forecast_by_medians() {
    let count = MOST_DRAWN as u32 + 1;
    let dag = numbered(count, (1..count).map(|node| (node - 1, node)));
    let forecast = dag.forecast(&costs(&vec![&[1, 2, 9][..]; count as usize]), &[], workers(3));
    assert_eq!(forecast, Forecast { median_ms: 2 * u64::from(count), band_ms: None, draws: 0 });
}

#[test]
fn what_to_speed_up_first_is_what_shortens_the_whole_most() {
    // 10 -> (200 | 700) -> 5: without the 700 the 200 decides.
    assert_eq!(diamond().speed_up(&[10, 200, 700, 5]), [(2, 500), (0, 10), (3, 5)]);
    // Of two equal ways none alone helps.
    assert_eq!(diamond().speed_up(&[10, 700, 700, 5]), [(0, 10), (3, 5)]);
    // On one worker all of it counts.
    let jobs: Vec<Job> = [10, 200, 700, 5].map(work).into();
    assert_eq!(diamond().speed_up_with(&jobs, workers(1)), [(2, 700), (1, 200), (0, 10), (3, 5)]);
    assert_eq!(diamond().speed_up_with(&jobs, None), diamond().speed_up(&[10, 200, 700, 5]));
}

proptest! {
    #[test]
    fn no_number_of_workers_beats_the_critical_path_or_is_worse_than_one(
        dag in graphs(12),
        millis in proptest::collection::vec(0_u64..9, 12),
        count in 1_u32..6,
    ) {
        let millis = &millis[..dag.nodes().len()];
        let jobs: Vec<Job> = millis.iter().map(|millis| work(*millis)).collect();
        let sum: u64 = millis.iter().sum();
        let critical = dag.critical_path(Some(millis));
        let longest = critical.duration_ms.unwrap();
        let played = dag.schedule(&jobs, workers(count));
        prop_assert!((longest..=sum).contains(&played.makespan_ms));
        // Graham's bound: at most the work shared out, and what of the critical path was not.
        let workers_ = u64::from(count);
        prop_assert!(workers_ * played.makespan_ms <= sum + (workers_ - 1) * longest);
        prop_assert_eq!(dag.schedule(&jobs, workers(1)).makespan_ms, sum);
        // Everything starts after what it needs, and never more at once than there are workers.
        for (node, takes) in millis.iter().enumerate() {
            let before = dag.predecessors(node as u32).iter().map(|need| played.finish_ms[*need as usize]);
            prop_assert!(before.max().unwrap_or(0) <= played.start_ms[node]);
            prop_assert_eq!(played.finish_ms[node] - played.start_ms[node], *takes);
        }
        for at in 0..played.makespan_ms {
            let busy = (0..jobs.len()).filter(|node| played.start_ms[*node] <= at && at < played.finish_ms[*node]);
            prop_assert!(busy.count() <= count as usize);
        }
        // With a worker for everything it is the critical path method.
        let unbounded = dag.schedule(&jobs, None);
        prop_assert_eq!(unbounded.makespan_ms, longest);
        prop_assert_eq!(&unbounded.slack_ms, &critical.slack);
        prop_assert!(dag.schedule(&jobs, workers(1)).slack_ms.iter().zip(millis).all(|(slack, millis)| *slack == 0 || *millis == 0));
    }

    #[test]
    fn slack_under_a_width_can_be_used_up(
        dag in graphs(9),
        millis in proptest::collection::vec(1_u64..9, 9),
        count in 1_u32..4,
    ) {
        let millis = &millis[..dag.nodes().len()];
        let jobs: Vec<Job> = millis.iter().map(|millis| work(*millis)).collect();
        let played = dag.schedule(&jobs, workers(count));
        // Every node later by all of its slack, in the order of the latest starts: the same work still fits on as many
        // workers, keeps the edges and ends no later.
        let late: Vec<u64> = played.start_ms.iter().zip(&played.slack_ms).map(|(start, slack)| start + slack).collect();
        for node in 0..jobs.len() {
            for need in dag.predecessors(node as u32) {
                prop_assert!(late[*need as usize] + millis[*need as usize] <= late[node]);
            }
            prop_assert!(late[node] + millis[node] <= played.makespan_ms);
        }
        for at in 0..played.makespan_ms {
            let busy = (0..jobs.len()).filter(|node| late[*node] <= at && at < late[*node] + millis[*node]);
            prop_assert!(busy.count() <= count as usize);
        }
        // And somewhere there is none, or the run could be shorter.
        prop_assert!(played.slack_ms.contains(&0));
    }

    #[test]
    fn gains_are_those_of_trying_each_node(
        dag in graphs(10),
        millis in proptest::collection::vec(0_u64..6, 10),
    ) {
        let millis = &millis[..dag.nodes().len()];
        let whole = dag.critical_path(Some(millis)).duration_ms.unwrap();
        let mut tried: Vec<(u32, u64)> = (0..millis.len()).map(|node| {
            let mut without = millis.to_vec();
            without[node] = 0;
            (node as u32, whole - dag.critical_path(Some(&without)).duration_ms.unwrap())
        }).filter(|(_, gain)| *gain > 0).collect();
        tried.sort_by_key(|(node, gain)| (std::cmp::Reverse(*gain), *node));
        prop_assert_eq!(dag.speed_up(millis), tried);
    }
}
