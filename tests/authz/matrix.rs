//! Every route and every topic by every kind of caller, against the contract.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Version;
use taskiq_flow::api::routes::ROUTES;
use taskiq_flow_selftest::client::Answer;
use taskiq_flow_selftest::plan::{Check, Form, Scope, checks};
use taskiq_flow_selftest::routes::{ROWS, differences};
use taskiq_flow_selftest::run::{Options, run};
use taskiq_flow_selftest::setup::operations;

use crate::shapes::Shapes;
use crate::support::matrix;

/// A route that has no rule in the matrix fails here, and so does a rule whose route is gone. The router is made of
/// `ROUTES` and nothing else; the document is the one that is served.
#[tokio::test]
async fn every_route_has_a_rule_in_the_matrix() {
    let routed =
        ROUTES.iter().flat_map(|route| route.paths.iter().map(|path| (route.method.as_str(), *path)));
    assert_eq!(differences(routed), [""; 0]);
    let matrix = matrix(Version::HTTP_11).await;
    let document = matrix.plain().key("admin-key").get("/openapi.json").await.expect(200).json();
    let documented = operations(&document);
    assert_eq!(differences(documented.iter().map(|(method, path)| (&**method, &**path))), [""; 0]);
    let asked: BTreeSet<_> =
        checks(&matrix.world, Scope::Full).iter().map(|check| (check.row.method, check.row.path)).collect();
    assert_eq!(asked.len(), ROWS.len(), "a rule that nothing is asked about");
    assert_eq!(documented.len(), ROWS.len());
}

#[tokio::test]
async fn everybody_gets_what_the_contract_gives_and_nothing_else() {
    ask_everything(Version::HTTP_11).await;
}

/// One connection carries all requests of a caller, refused ones with their bodies among them.
#[tokio::test]
async fn everybody_gets_the_same_over_http2() {
    ask_everything(Version::HTTP_2).await;
}

async fn ask_everything(version: Version) {
    let matrix = matrix(version).await;
    let document = matrix.plain().key("admin-key").get("/openapi.json").await.expect(200).json();
    let mut shapes = Shapes::of(document);
    let mut inspect = |check: &Check, answer: &Answer| match check.form {
        _ if answer.version != version => Some(format!("answered by {:?}", answer.version)),
        Form::Head | Form::Stream => None,
        _ => shapes.fault(check.row.method, check.row.path, answer),
    };
    let deadline = Duration::from_secs(300);
    let options = Options { scope: Scope::Full, at_once: 16, bad_credentials_per_minute: None, deadline };
    let report = run(&matrix.client, &matrix.world, &options, Some(&mut inspect), |_| {}).await.unwrap();
    assert!(report.is_good() && report.skipped.is_empty(), "{}", report.render());
    let (routes, callers) = (ROWS.len(), matrix.world.callers.len());
    assert!(report.requests >= routes * callers, "{} requests", report.requests);
    assert!(report.sockets >= callers * 5, "{} sockets", report.sockets);
}
