use proptest::prelude::*;

use super::layout::Layout;
use super::place::{packed, place};
use super::*;

/// The relative luminance of `#rrggbb`, after WCAG 2.2.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_stands_out_in_every_state_and_scheme() {
    for look in &LOOKS {
        for (fill, label, small) in
            [(look.light[0], "#0f172a", "#52607a"), (look.dark[0], "#f1f5f9", "#a9b6c8")]
        {
            assert!(contrast(fill, label) >= 7.0, "label of {} on {fill}", look.state);
            assert!(
                contrast(fill, small) >= 4.5,
                "small text of {} on {fill}: {}",
                look.state,
                contrast(fill, small)
            );
        }
    }
}

#[test]
fn every_state_of_a_step_has_its_colours() {
    use crate::run::StepStatus::*;
    let all = [Pending, Queued, Running, Retrying, Completed, Failed, Skipped, Cancelled, TimedOut, Cached];
    assert_eq!(LOOKS.map(|look| look.state), all.map(|state| state.as_str()));
}

/// Levels and successors of a graph whose edges run from low to high indexes.
fn graphs() -> impl Strategy<Value = (Vec<u32>, Vec<Vec<u32>>)> {
    proptest::collection::vec((0_u32..14, 0_u32..14), 0..24).prop_map(|edges| {
        let mut successors = vec![Vec::new(); 14];
        let mut levels = vec![0_u32; 14];
        for (source, target) in edges.into_iter().filter(|(a, b)| a < b) {
            successors[source as usize].push(target);
        }
        for source in 0..14 {
            successors[source].sort_unstable();
            successors[source].dedup();
            for target in &successors[source] {
                levels[*target as usize] = levels[*target as usize].max(levels[source] + 1);
            }
        }
        (levels, successors)
    })
}

proptest! {
    #[test]
    fn lines_end_where_edges_do_and_boxes_keep_their_distance((levels, successors) in graphs()) {
        let layout = Layout::new(&levels, |node| &successors[node as usize]);
        for (source, targets) in (0..).zip(&successors) {
            let stem: Vec<u32> = std::iter::once(source).chain(layout.stem(source)).collect();
            for pair in stem.windows(2) {
                prop_assert_eq!(&layout.vertices[pair[1] as usize].up, &vec![pair[0]]);
            }
            for target in targets {
                let branch = layout.branch(source, *target).unwrap();
                prop_assert!(stem.contains(&branch));
                prop_assert!(layout.vertices[branch as usize].down.contains(target));
                let rows = [branch, *target].map(|vertex| layout.vertices[vertex as usize].row);
                prop_assert_eq!(rows[0] + 1, rows[1]);
            }
        }
        let spacing = |a: u32, b: u32| f64::from(10 + a % 3 + b % 2);
        for centres in [place(&layout, &spacing), packed(&layout, &spacing)] {
            for pair in layout.rows.iter().flat_map(|row| row.windows(2)) {
                let apart = centres[pair[1] as usize] - centres[pair[0] as usize];
                prop_assert!(apart > spacing(pair[0], pair[1]) - 1e-6, "{} apart", apart);
            }
        }
    }

    #[test]
    fn crossings_are_counted_as_by_hand((levels, successors) in graphs()) {
        let layout = Layout::new(&levels, |node| &successors[node as usize]);
        let mut crossings = 0;
        for rows in layout.rows.windows(2) {
            let at = |vertex: &u32| rows[1].iter().position(|below| below == vertex).unwrap();
            let lines: Vec<(usize, usize)> = rows[0].iter().enumerate().flat_map(|(place, vertex)| {
                layout.vertices[*vertex as usize].down.iter().map(move |below| (place, at(below)))
            }).collect();
            for (a, b) in &lines {
                crossings += lines.iter().filter(|(c, d)| a < c && b > d).count() as u64;
            }
        }
        prop_assert_eq!(layout.crossings(), crossings);
    }
}

#[test]
fn a_crossing_that_need_not_be_is_undone() {
    let successors = [vec![5], vec![4], vec![3], vec![], vec![], vec![]];
    let layout = Layout::new(&[0, 0, 0, 1, 1, 1], |node| &successors[node as usize]);
    assert_eq!((layout.crossings(), &layout.rows[1]), (0, &vec![5, 4, 3]));
}

#[test]
fn a_line_that_passes_a_chain_by_is_straight() {
    let successors = [vec![1, 4], vec![2], vec![3], vec![4], vec![]];
    let layout = Layout::new(&[0, 1, 2, 3, 4], |node| &successors[node as usize]);
    let centres = place(&layout, &|_, _| 40.0);
    let stem: Vec<f64> = layout.stem(0).map(|waypoint| centres[waypoint as usize]).collect();
    assert_eq!(stem.len(), 3);
    assert!(stem.iter().all(|centre| centre == &stem[0]) && centres[1] == centres[3], "{centres:?}");
}

#[test]
fn text_is_shortened_to_its_room() {
    use super::text::{columns, ems, fit, fit_ems, shown};
    assert_eq!(fit("report", 6), "report");
    assert_eq!(fit("report", 5), "repo…");
    assert_eq!((fit("日本語", 5), columns(&fit("日本語", 4))), ("日本…".into(), 3));
    assert_eq!((fit("ab", 1), fit("ab", 0)), ("…".into(), "".into()));
    assert!(fit(&"\u{301}".repeat(1_000), 5).chars().count() <= 21);
    assert_eq!(fit_ems("report", 100.0), "report");
    assert!(ems(&fit_ems(&"wide ".repeat(50), 10.0)) <= 10.0);
    assert_eq!(shown("a\tb\u{85}\u{feff}\u{2069}c"), "a b\u{fffd}\u{fffd}\u{fffd}c");
    assert_eq!(shown("👩\u{200d}🚀 e\u{301}"), "👩\u{200d}🚀 e\u{301}");
}
