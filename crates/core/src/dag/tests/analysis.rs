use super::*;

#[test]
fn a_diamond_has_three_levels_and_two_equal_paths_of_which_the_first_counts() {
    let dag = diamond();
    assert_eq!(dag.levels(), [vec![0], vec![1, 2], vec![3]]);
    assert_eq!(dag.topological_order(), [0, 1, 2, 3]);
    assert_eq!(dag.parallel_groups(), [vec!["load"], vec!["count", "rank"], vec!["report"]]);
    assert_eq!((dag.successors(0), dag.predecessors(3)), (&[1, 2][..], &[1, 2][..]));
    let critical = dag.critical_path(None);
    assert_eq!(critical.path, [0, 1, 3]);
    assert_eq!((critical.weight, critical.duration_ms), (Weight::Edges, None));
    assert_eq!(critical.slack, [0, 0, 0, 0]);
}

#[test]
fn durations_move_the_critical_path_and_leave_slack_beside_it() {
    let critical = diamond().critical_path(Some(&[10, 200, 700, 5]));
    assert_eq!(critical.path, [0, 2, 3]);
    assert_eq!((critical.weight, critical.duration_ms), (Weight::Duration, Some(715)));
    assert_eq!(critical.slack, [0, 500, 0, 0]);
    let missing = diamond().critical_path(Some(&[10]));
    assert_eq!((missing.path, missing.duration_ms), (vec![0, 1, 3], Some(10)));
    let huge = diamond().critical_path(Some(&[u64::MAX; 4]));
    assert_eq!(huge.duration_ms, Some(u64::MAX));
}

#[test]
fn a_short_way_round_has_slack_in_edges() {
    // a -> b -> c -> d and a -> e -> d
    let critical = numbered(5, [(0, 1), (1, 2), (2, 3), (0, 4), (4, 3)]).critical_path(None);
    assert_eq!(critical.path, [0, 1, 2, 3]);
    assert_eq!(critical.slack, [0, 0, 0, 0, 1]);
}

#[test]
fn ready_tasks_come_in_the_order_of_the_definition() {
    let dag = numbered(5, [(3, 0), (4, 1)]);
    assert_eq!(dag.topological_order(), [2, 3, 0, 4, 1]);
    assert_eq!(dag.levels(), [vec![2, 3, 4], vec![0, 1]]);
}

#[test]
fn an_empty_graph_has_empty_answers() {
    let dag = Dag::new(Vec::new(), Vec::new()).unwrap();
    assert!(
        dag.levels().is_empty() && dag.topological_order().is_empty() && dag.parallel_groups().is_empty()
    );
    let critical = dag.critical_path(Some(&[]));
    assert_eq!((critical.path, critical.duration_ms, critical.slack), (vec![], Some(0), vec![]));
    assert_eq!(find_cycle(0, &[]), None);
    assert_eq!((dag.level_of(0), dag.successors(0), dag.predecessors(7)), (None, &[][..], &[][..]));
    for format in DagFormat::ALL {
        let text = dag.render(format, &[]).into_text();
        assert!(text.ends_with('\n') && !text.contains("NaN") && !text.contains("inf"), "{format}: {text}");
    }
}

#[test]
fn a_cycle_is_told_by_the_ids_on_it() {
    let names = ["fetch", "a", "b", "c", "after"].map(|name| DagNode::new(name, "expression"));
    let edges = [(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)].map(|(source, target)| edge(source, target, "x"));
    let error = Dag::new(names.into(), edges.into()).unwrap_err();
    assert_eq!(error.to_string(), "the tasks need each other in a circle: a -> b -> c -> a");
    let DagError::Cycle(cycle) = error else { panic!("{error}") };
    assert_eq!(cycle.path, ["a", "b", "c", "a"]);
}

#[test]
fn a_task_that_needs_itself_is_a_cycle() {
    assert_eq!(find_cycle(2, &[(0, 1), (1, 1)]), Some(vec![1]));
}

#[test]
fn of_two_cycles_through_a_task_the_shorter_is_told() {
    let mut edges: Vec<(u32, u32)> = (0..50).map(|node| (node, (node + 1) % 50)).collect();
    edges.push((3, 0));
    assert_eq!(find_cycle(50, &edges), Some(vec![0, 1, 2, 3]));
}

#[test]
fn an_edge_from_nowhere_is_refused_and_no_cycle() {
    let error =
        Dag::new(vec![DagNode::new("a", "http")], vec![edge(0, 0, "x"), edge(0, 9, "x")]).unwrap_err();
    assert_eq!(error, DagError::NoSuchNode { edge: 1, node: 9, count: 1 });
    assert_eq!(find_cycle(1, &[(0, 9), (9, 9), (9, 0)]), None);
}

#[test]
fn several_edges_between_two_tasks_count_once_for_the_structure() {
    let dag = dag(&["a", "b"], &[(0, 1, "x"), (0, 1, "y"), (0, 1, "x")]);
    assert_eq!((dag.successors(0), dag.predecessors(1), dag.edges().len()), (&[1][..], &[0][..], 3));
    assert!(dag.render(DagFormat::Mermaid, &[]).into_text().contains("n0 -->|\"x, y\"| n1"));
}

#[test]
fn long_chains_and_circles_do_not_exhaust_the_stack() {
    let count = 100_000;
    let dag = numbered(count, (1..count).map(|node| (node - 1, node)));
    assert_eq!(dag.levels().len(), count as usize);
    assert_eq!(dag.critical_path(None).path.len(), count as usize);
    let circle: Vec<_> = (0..count).map(|node| (node, (node + 1) % count)).collect();
    assert_eq!(find_cycle(count as usize, &circle).unwrap().len(), count as usize);
}
