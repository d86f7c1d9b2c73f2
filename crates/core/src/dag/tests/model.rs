//! Small random graphs against answers found by trying everything.

use proptest::prelude::*;

use super::scanners::connections;
use super::*;

/// Every path from a root to a node that nobody needs.
fn whole_paths(dag: &Dag) -> Vec<Vec<u32>> {
    fn extend(dag: &Dag, path: &mut Vec<u32>, all: &mut Vec<Vec<u32>>) {
        let after = dag.successors(path[path.len() - 1]).to_vec();
        if after.is_empty() {
            all.push(path.clone());
        }
        for node in after {
            path.push(node);
            extend(dag, path, all);
            path.pop();
        }
    }
    let mut all = Vec::new();
    for node in 0..dag.nodes().len() as u32 {
        if dag.edges().iter().all(|edge| edge.target != node) {
            extend(dag, &mut vec![node], &mut all);
        }
    }
    all.sort();
    all
}

fn check_critical_path(dag: &Dag, weights: Option<&[u64]>) {
    let weight = |node: &u32| weights.map_or(1, |weights| weights[*node as usize]);
    let length = |path: &Vec<u32>| path.iter().map(weight).sum::<u64>();
    let paths = whole_paths(dag);
    let longest = paths.iter().map(length).max().unwrap_or(0);
    let critical = dag.critical_path(weights);
    let first = paths.iter().find(|path| length(path) == longest).cloned().unwrap_or_default();
    assert_eq!(critical.path, first);
    assert_eq!(critical.duration_ms, weights.map(|_| longest));
    for node in 0..dag.nodes().len() as u32 {
        let through = paths.iter().filter(|path| path.contains(&node)).map(length).max().unwrap();
        assert_eq!(critical.slack[node as usize], longest - through, "slack of {node}");
    }
}

/// A graph whose definition order is none in which it could run.
pub(super) fn graphs(most: u32) -> impl Strategy<Value = Dag> {
    (1..=most).prop_flat_map(|count| {
        let order = Just((0..count).collect::<Vec<u32>>()).prop_shuffle();
        let edges = proptest::collection::vec((0..count, 0..count), 0..(2 * count as usize));
        (Just(count), order, edges).prop_map(|(count, order, edges)| {
            let forward = edges.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b)));
            numbered(count, forward.map(|(a, b)| (order[a as usize], order[b as usize])))
        })
    })
}

proptest! {
    #[test]
    fn levels_order_and_critical_path_are_those_of_all_paths(
        dag in graphs(8),
        weights in proptest::collection::vec(0_u64..4, 8),
    ) {
        let paths = whole_paths(&dag);
        for node in 0..dag.nodes().len() as u32 {
            let before = |path: &Vec<u32>| path.iter().position(|on| *on == node);
            prop_assert_eq!(dag.level_of(node), paths.iter().filter_map(before).max().map(|level| level as u32));
            prop_assert!(dag.levels()[dag.level_of(node).unwrap() as usize].contains(&node));
        }
        let mut done: Vec<u32> = Vec::new();
        while let Some(next) = (0..dag.nodes().len() as u32).find(|node| {
            !done.contains(node) && dag.predecessors(*node).iter().all(|need| done.contains(need))
        }) {
            done.push(next);
        }
        prop_assert_eq!(dag.topological_order(), done);
        check_critical_path(&dag, None);
        check_critical_path(&dag, Some(&weights[..dag.nodes().len()]));
    }

    #[test]
    fn a_cycle_is_found_exactly_when_a_node_reaches_itself(
        edges in proptest::collection::vec((0_u32..6, 0_u32..6), 0..10)
    ) {
        let mut reach = [[false; 6]; 6];
        for (a, b) in &edges {
            reach[*a as usize][*b as usize] = true;
        }
        for via in 0..6 {
            for a in 0..6 {
                for b in 0..6 {
                    reach[a][b] |= reach[a][via] && reach[via][b];
                }
            }
        }
        match find_cycle(6, &edges) {
            None => prop_assert!((0..6).all(|node| !reach[node][node])),
            Some(cycle) => {
                prop_assert_eq!(cycle.iter().min(), cycle.first());
                for (place, node) in cycle.iter().enumerate() {
                    let next = cycle[(place + 1) % cycle.len()];
                    prop_assert!(edges.contains(&(*node, next)), "{:?} is no cycle of {:?}", cycle, edges);
                    prop_assert!(!cycle[..place].contains(node));
                }
            }
        }
    }

    #[test]
    fn the_lines_of_an_ascii_drawing_join_what_the_edges_join(dag in graphs(9)) {
        let text = dag.render(DagFormat::Ascii, &[]).into_text();
        if let Some(drawn) = connections(&text) {
            let name = |node: u32| dag.nodes()[node as usize].id.clone();
            let edges = dag.edges().iter().map(|edge| (name(edge.source), name(edge.target)));
            prop_assert_eq!(drawn, edges.collect(), "{}", text);
        } else {
            prop_assert!(text.starts_with("level 0"), "neither boxes nor a list:\n{}", text);
        }
    }
}
