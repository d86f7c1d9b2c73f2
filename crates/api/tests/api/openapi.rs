//! The OpenAPI document is that of the routes that are served.

use std::collections::BTreeSet;

use http::Method;
use taskiq_flow_api::routes::{ROUTES, Rule};

use crate::support::server;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/golden/openapi.json");

#[test]
fn the_document_has_the_routes_of_the_table_and_no_others() {
    let document = taskiq_flow_api::document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut served = BTreeSet::new();
    for route in ROUTES {
        for path in route.paths {
            served.insert((path.to_string(), route.method.as_str().to_lowercase()));
        }
    }
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((path.clone(), method.clone()));
        }
    }
    assert_eq!(served, documented);
}

#[test]
fn every_operation_says_who_may_call_it_and_has_a_name_of_its_own() {
    let document = taskiq_flow_api::document();
    let mut names = BTreeSet::new();
    for route in ROUTES {
        for path in route.paths {
            let operation = &document["paths"][path][route.method.as_str().to_lowercase()];
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(name.starts_with(route.name), "{name}");
            let public = matches!(route.rule, Rule::Probe | Rule::Public);
            assert_eq!(operation["security"].as_array().unwrap().is_empty(), public, "{path}");
            assert!(
                operation["summary"].is_string() && operation["responses"]["default"].is_object(),
                "{path}"
            );
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array().unwrap();
                let named = |one: &&serde_json::Value| one["name"] == parameter && one["in"] == "path";
                assert_eq!(parameters.iter().filter(named).count(), 1, "{path} {parameter}");
            }
        }
    }
}

/// A change of the API shows here. `UPDATE_GOLDEN=1` writes the file anew.
#[test]
fn the_document_is_the_one_that_was_agreed() {
    let document = format!("{:#}\n", taskiq_flow_api::document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &document).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let difference = golden.lines().zip(document.lines()).enumerate().find(|(_, (old, new))| old != new);
    assert!(
        golden == document,
        "the API has changed, first at line {difference:?}; UPDATE_GOLDEN=1 agrees to it"
    );
}

#[tokio::test]
async fn the_document_and_its_page_are_for_callers_with_a_credential() {
    let server = server().await;
    let json = server.call(Method::GET, "/openapi.json").key("viewer-key").send().await;
    assert_eq!((json.status, json.json()), (200, taskiq_flow_api::document()));
    let page = server.call(Method::GET, "/docs").key("viewer-key").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for route in ROUTES {
        for path in route.paths {
            assert!(page.text().contains(&format!("<code>{path}</code>")), "{path}");
        }
    }
    for path in ["/openapi.json", "/docs"] {
        assert_eq!(server.call(Method::GET, path).send().await.status, 401, "{path}");
    }
    assert_eq!(server.call(Method::GET, "/docs/errors/nonsense").send().await.status, 404);
}
