//! Which problems an operation can answer with, as far as its route and its parameters say.

use std::collections::BTreeSet;

use http::Method;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, ResponseBuilder};

use crate::docs::problems_of;
use crate::routes::{Route, Rule};

/// What any request may meet on its way to a handler: framing that two servers could read differently, the HTTPS rule, a
/// body that is announced too large, a limit, a failure.
const ANYWHERE: [u16; 6] = [400, 403, 413, 429, 500, 503];
/// No credential, or a bad one.
const CREDENTIAL: [u16; 1] = [401];
/// What the path names may not exist.
const PATH: [u16; 1] = [404];
/// A value that is not possible.
const QUERY: [u16; 1] = [422];
/// Reading a body.
const BODY: [u16; 3] = [408, 415, 422];

/// Describes to clients each problem the operation has, and the shape of any other.
pub(super) fn describe_problems(operation: &mut Operation, route: &Route) {
    let problems = problems(operation, route);
    let responses = &mut operation.responses.responses;
    for status in problems {
        responses.entry(status.to_string()).or_insert_with(|| Ref::new(place(&name(status))).into());
    }
    responses.insert("default".to_owned(), Ref::new(place("Problem")).into());
}

/// Adds what [`describe_problems`] refers to.
pub(super) fn add_problems(components: &mut Components) {
    let problem = |description: String| {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(description).content("application/problem+json", content).build()
    };
    let any = "A problem (RFC 9457); its status is that of the answer".to_owned();
    components.responses.insert("Problem".to_owned(), problem(any).into());
    let all = [&ANYWHERE[..], &CREDENTIAL, &PATH, &QUERY, &BODY, &[409, 426]].concat();
    for status in BTreeSet::from_iter(all) {
        let kinds = problems_of(status).map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        components.responses.insert(name(status), problem(format!("A problem (RFC 9457): {kinds}")).into());
    }
}

fn problems(operation: &Operation, route: &Route) -> BTreeSet<u16> {
    let mut statuses = BTreeSet::from(ANYWHERE);
    let has = |place: ParameterIn| {
        operation.parameters.iter().flatten().any(|one| match one {
            RefOr::T(parameter) => parameter.parameter_in == place,
            RefOr::Ref(_) => false,
        })
    };
    if !matches!(route.rule, Rule::Probe | Rule::Public) {
        statuses.extend(CREDENTIAL);
    }
    if has(ParameterIn::Path) {
        statuses.extend(PATH);
    }
    if has(ParameterIn::Query) {
        statuses.extend(QUERY);
    }
    if operation.request_body.is_some() {
        statuses.extend(BODY);
    }
    // A change may not be possible in the state that things are in.
    if route.method != Method::GET {
        statuses.extend([404, 409, 422]);
    }
    match route.rule {
        // Such as an audit log that is kept in no file.
        Rule::SecurityAdmin => statuses.extend([409]),
        // Measurements can be switched off.
        Rule::WholeServer(_) => statuses.extend([404]),
        Rule::WebSocket => statuses.extend([426]),
        _ => {}
    }
    statuses
}

fn name(status: u16) -> String {
    format!("Problem{status}")
}

fn place(name: &str) -> String {
    format!("#/components/responses/{name}")
}
