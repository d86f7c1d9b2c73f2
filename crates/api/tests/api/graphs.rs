//! The graph in its formats, and what follows from it.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server};

async fn accept(server: &Server, path: &str, accept: &str) -> Answer {
    server.call(Method::GET, path).key("admin-key").header("accept", accept).send().await
}

#[tokio::test]
async fn the_graph_comes_as_nodes_edges_and_levels() {
    let server = server().await;
    let graph = server.get("/pipelines/diamond/dag").await.json();
    let node = json!({"id": "join", "label": "join", "kind": "expression", "level": 2, "state": null, "inputs": ["doubled", "tripled"], "outputs": ["total"]});
    assert_eq!(graph["nodes"][3], node);
    assert_eq!(graph["edges"][0], json!({"source": "load", "target": "left", "data": "loaded"}));
    assert_eq!(graph["levels"], json!([["load"], ["left", "right"], ["join"]]));
    assert_eq!(server.get("/dag/diamond").await.json(), graph);
    assert_eq!(server.get("/pipelines/diamond/dag?format=json").await.json(), graph);
    assert!(server.get("/pipelines/diamond/dag?format=cytoscape").await.json().is_object());
}

#[tokio::test]
async fn nodes_have_the_states_of_a_run() {
    let server = server().await;
    let failed = server.run("failing", json!({})).await;
    let states = async |query: &str| -> Vec<Value> {
        let graph = server.get(&format!("/pipelines/failing/dag{query}")).await.json();
        graph["nodes"].as_array().unwrap().iter().map(|node| node["state"].clone()).collect()
    };
    assert_eq!(states("").await, ["completed", "failed"]);
    assert_eq!(states(&format!("?run_id={failed}")).await, ["completed", "failed"]);
    let other = server.run("diamond", json!({})).await;
    let foreign = server.get(&format!("/pipelines/failing/dag?run_id={other}")).await;
    assert_eq!(foreign.problem()["status"], 404);
}

#[tokio::test]
async fn other_formats_come_as_json_or_as_text_by_what_is_accepted() {
    let server = server().await;
    for (format, media_type) in
        [("dot", "text/vnd.graphviz"), ("mermaid", "application/vnd.mermaid"), ("ascii", "text/plain")]
    {
        let path = format!("/pipelines/diamond/dag?format={format}");
        let json = server.get(&path).await;
        assert_eq!(json.header("content-type"), "application/json", "{format}");
        let text = json.json()[format].as_str().unwrap().to_owned();
        assert!(text.contains("join"), "{text}");
        for accepted in [media_type, "text/plain"] {
            let answer = accept(&server, &path, accepted).await;
            assert_eq!(answer.header("content-type"), format!("{media_type}; charset=utf-8"), "{format}");
            assert_eq!(answer.text(), text, "{format}");
        }
        assert_eq!(accept(&server, &path, "application/json").await.json()[format], text);
        assert!(answer_varies(&json));
    }
    assert!(server.get("/dag/diamond/dot").await.json()["dot"].as_str().unwrap().starts_with("digraph"));
    assert!(accept(&server, "/pipelines/diamond/dag/dot", "text/*").await.text().starts_with("digraph"));
    let picture = server.get("/pipelines/diamond/dag?format=svg").await;
    assert_eq!(picture.header("content-type"), "image/svg+xml; charset=utf-8");
    assert!(picture.text().contains("<svg"));
    assert!(picture.header("content-security-policy").starts_with("default-src 'none'; style-src"));
    let wrapped = accept(&server, "/pipelines/diamond/dag?format=svg", "application/json").await.json();
    assert_eq!(wrapped["svg"], picture.text());
}

fn answer_varies(answer: &Answer) -> bool {
    answer.header("vary").contains("accept")
}

#[tokio::test]
async fn without_a_format_the_accept_header_decides() {
    let server = server().await;
    for (accepted, media_type) in [
        ("image/svg+xml", "image/svg+xml; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/vnd.graphviz", "text/vnd.graphviz; charset=utf-8"),
        ("*/*", "application/json"),
        ("text/html,*/*;q=0.8", "application/json"),
    ] {
        let answer = accept(&server, "/pipelines/diamond/dag", accepted).await;
        assert_eq!(answer.header("content-type"), media_type, "{accepted}");
    }
}

#[tokio::test]
async fn the_critical_path_counts_edges_or_measured_time() {
    let server = server().await;
    let path = server.get("/pipelines/diamond/critical-path").await.json();
    assert_eq!(path["critical_path"], json!(["load", "left", "join"]));
    assert_eq!(
        (&path["length"], &path["weight"], &path["duration_ms"]),
        (&json!(3), &json!("edges"), &Value::Null)
    );
    assert_eq!(path["slack_edges"]["right"], 0);
    assert_eq!(server.get("/dag/diamond/critical-path").await.json(), path);
    server.run("diamond", json!({})).await;
    let timed = server.get("/pipelines/diamond/critical-path?weight=duration").await.json();
    assert_eq!(timed["weight"], "duration");
    assert!(timed["duration_ms"].is_u64() && timed["slack_ms"]["join"].is_u64(), "{timed}");
    assert_eq!(timed["length"], 3);
}

#[tokio::test]
async fn what_can_run_at_once_is_one_group() {
    let server = server().await;
    let groups = server.get("/pipelines/diamond/parallel-groups").await.json();
    let expected = json!({"pipeline_id": "diamond", "parallel_groups": [["load"], ["left", "right"], ["join"]], "group_count": 3});
    assert_eq!(groups, expected);
    assert_eq!(server.get("/dag/diamond/parallel-groups").await.json(), expected);
}
