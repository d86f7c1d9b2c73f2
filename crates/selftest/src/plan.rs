//! What is asked, and what the answer must be.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::Answer;
use crate::model::{Permission, Rights, may, may_everywhere, may_list};
use crate::routes::{METRICS, Needs, ROWS, Row};
use crate::world::{Caller, Standing, Target, World};

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything: every route, caller and pipeline, below `/api` too, by `HEAD` and as a stream.
    Full,
    /// What a live server's limits allow in minutes: each route by each caller that is good for something, and by one
    /// of those that must be refused in turn; below `/api` every second time.
    Sampled,
}

/// A way of asking for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the path says.
    Plain,
    /// Below `/api`.
    BelowApi,
    /// By `HEAD`.
    Head,
    /// As a stream of events.
    Stream,
    /// A list, of this pipeline alone.
    Filtered,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The route.
    pub row: &'static Row,
    /// Who asks, by its place in the world.
    pub caller: usize,
    /// For what, by its place in the world.
    pub target: usize,
    /// How.
    pub form: Form,
}

/// Why a request must be refused. Refusals for the same reason must be the same, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No credential.
    NoCredential,
    /// A key that is not accepted, whatever is wrong with it.
    BadKey,
    /// A token that is not accepted.
    BadToken,
    /// A good credential that may not do this, whether or not what it names is there.
    NotAllowed,
}

/// What the answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// One of these.
    pub statuses: &'static [u16],
    /// A refusal, and why.
    pub refusal: Option<Refusal>,
}

/// Judges answers, and remembers refusals to compare them.
#[derive(Debug, Default)]
pub struct Judge {
    refusals: BTreeMap<Refusal, (String, String)>,
}

/// Every request of the matrix.
pub fn checks(world: &World, scope: Scope) -> Vec<Check> {
    let mut checks = Vec::new();
    let bad = world.callers.iter().filter(|caller| caller.is_bad()).count().max(1);
    for (number, row) in ROWS.iter().enumerate() {
        if row.path == METRICS && world.metrics.is_none() {
            continue;
        }
        let mut bad_seen = 0;
        for (caller, who) in world.callers.iter().enumerate() {
            if who.is_bad() {
                bad_seen += 1;
                if scope == Scope::Sampled && (bad_seen + number) % bad != 0 {
                    continue;
                }
            }
            // Five handshakes a minute are few: who is good for something opens sockets, which shows more.
            let handshake = row.needs == Needs::Handshake;
            if scope == Scope::Sampled && handshake && matches!(who.standing, Standing::Good(_)) {
                continue;
            }
            for target in targets(row, world, scope, who) {
                let check = |form| Check { row, caller, target, form };
                let there = names_target(row) && world.targets[target].pipeline.exists;
                if row.destroys && there && is_allowed(&check(Form::Plain), world) {
                    continue;
                }
                let forms = forms(row, target, scope, number + caller);
                checks.extend(forms.into_iter().map(check));
            }
            if is_list_of_pipelines_things(row) {
                let filtered = |target| Check { row, caller, target, form: Form::Filtered };
                let some = if scope == Scope::Full { world.targets.len() } else { 2 };
                if !who.is_bad() || scope == Scope::Full {
                    checks.extend((0..world.targets.len().min(some)).map(filtered));
                }
            }
        }
    }
    checks
}

/// What the answer must be, by the contract.
pub fn expected(check: &Check, world: &World) -> Expected {
    let row = check.row;
    let refused = |status: &'static [u16], why| Expected { statuses: status, refusal: Some(why) };
    let good = Expected { statuses: answers(check, world), refusal: None };
    if row.needs == Needs::Nothing {
        return good;
    }
    match &world.callers[check.caller].standing {
        Standing::Absent if row.needs == Needs::Handshake => good,
        Standing::Absent => refused(&[401], Refusal::NoCredential),
        Standing::BadKey => refused(&[403], Refusal::BadKey),
        Standing::BadToken => refused(&[401], Refusal::BadToken),
        Standing::Good(_) if is_allowed(check, world) => good,
        Standing::Good(_) => refused(&[403], Refusal::NotAllowed),
    }
}

/// The path that is asked for.
pub fn path(check: &Check, world: &World) -> String {
    let target = &world.targets[check.target];
    let id = match check.row.needs {
        Needs::OfRun(_) => &target.run,
        Needs::OfSchedule(_) => &target.schedule,
        Needs::SecurityAdmin => "selftest-none",
        Needs::Nothing => "forbidden",
        _ => &target.pipeline.id,
    };
    let path = match (check.row.path, &world.metrics) {
        (METRICS, Some(metrics)) => metrics,
        (path, _) => path,
    };
    let path = path.replace("{id}", id).replace("{pipeline_id}", id);
    let path = path.replace("{name}", "selftest").replace("{file}", "app.js");
    match check.form {
        Form::BelowApi => format!("/api{path}"),
        Form::Filtered => format!("{path}?pipeline_id={}", target.pipeline.id),
        _ if is_list(check.row) => format!("{path}?limit=500"),
        _ => path,
    }
}

/// The body that goes with it.
pub fn body(check: &Check, world: &World) -> Option<String> {
    check.row.body.map(|body| body.replace("{pipeline}", &world.targets[check.target].pipeline.id))
}

impl Judge {
    /// What is wrong with an answer, if something is.
    pub fn fault(&mut self, check: &Check, world: &World, answer: &Answer) -> Option<String> {
        let expected = expected(check, world);
        if !expected.statuses.contains(&answer.status) {
            let wanted: Vec<String> = expected.statuses.iter().map(u16::to_string).collect();
            return Some(format!("{} instead of {}", answer.status, wanted.join(" or ")));
        }
        if check.form == Form::Head {
            return (!answer.body.is_empty()).then(|| "an answer to HEAD has a body".to_owned());
        }
        match expected.refusal {
            Some(why) => self.compare(why, &world.callers[check.caller], answer),
            None if (200..300).contains(&answer.status) => leaks(check, world, answer),
            None => None,
        }
    }

    /// Refusals for one reason must not tell more than that.
    fn compare(&mut self, why: Refusal, caller: &Caller, answer: &Answer) -> Option<String> {
        if answer.header("content-type") != "application/problem+json" {
            return Some("the refusal is no problem document".to_owned());
        }
        let shown = answer.without_chance();
        match self.refusals.get(&why) {
            None => {
                self.refusals.insert(why, (shown, caller.name.clone()));
                None
            }
            Some((known, _)) if *known == shown => None,
            Some((known, other)) => {
                Some(format!("the refusal differs from the one of {other}:\n  {shown}\n  {known}"))
            }
        }
    }
}

/// The pipelines (runs, schedules) a route is asked about.
fn targets(row: &Row, world: &World, scope: Scope, who: &Caller) -> Vec<usize> {
    let about_one =
        matches!(row.needs, Needs::On(_) | Needs::OfRun(_) | Needs::OfSchedule(_) | Needs::Body(_))
            || (row.needs == Needs::Handshake && row.path.contains("{id}"));
    match (about_one, scope, &who.standing) {
        (true, Scope::Full, _) | (true, _, Standing::Good(_)) => (0..world.targets.len()).collect(),
        _ => vec![0],
    }
}

fn forms(row: &Row, target: usize, scope: Scope, turn: usize) -> Vec<Form> {
    let below = row.path != "/";
    let mut forms = match scope {
        // The path alone differs: one pipeline shows that it is the same route.
        Scope::Full if below && target == 0 => vec![Form::Plain, Form::BelowApi],
        Scope::Sampled if below && turn % 2 == 1 => vec![Form::BelowApi],
        _ => vec![Form::Plain],
    };
    if scope == Scope::Full && row.method == "GET" && target == 0 && row.needs != Needs::Handshake {
        forms.push(Form::Head);
    }
    if scope == Scope::Full && row.path == "/runs/{id}/events" {
        forms.push(Form::Stream);
    }
    forms
}

fn is_list(row: &Row) -> bool {
    row.method == "GET" && matches!(row.needs, Needs::Listing(_))
}

fn is_list_of_pipelines_things(row: &Row) -> bool {
    is_list(row) && row.path != "/pipelines"
}

fn is_allowed(check: &Check, world: &World) -> bool {
    let Standing::Good(rights) = &world.callers[check.caller].standing else {
        return check.row.needs == Needs::Nothing;
    };
    let target = &world.targets[check.target];
    match check.row.needs {
        Needs::Nothing | Needs::Valid | Needs::Handshake => true,
        Needs::On(permission) => may(rights, permission, &target.pipeline),
        Needs::OfRun(permission) | Needs::OfSchedule(permission) => may_have(rights, permission, target),
        Needs::Body(permission) => {
            may_list(rights, permission, &world.acls) && may(rights, permission, &target.pipeline)
        }
        Needs::Listing(permission) => {
            let filtered = check.form == Form::Filtered;
            may_list(rights, permission, &world.acls)
                && (!filtered || may(rights, Permission::Read, &target.pipeline))
        }
        Needs::Whole(permission) => may_everywhere(rights, permission),
        Needs::SecurityAdmin => may_everywhere(rights, Permission::Admin),
    }
}

/// A run or a schedule: who may read everything is told that it is not there, everybody else is refused.
pub(crate) fn may_have(rights: &Rights, permission: Permission, target: &Target) -> bool {
    match target.pipeline.exists {
        true => may(rights, permission, &target.pipeline),
        false => may_everywhere(rights, Permission::Read),
    }
}

fn answers(check: &Check, world: &World) -> &'static [u16] {
    match world.targets[check.target].pipeline.exists || !names_target(check.row) {
        true => check.row.answers,
        false => check.row.missing,
    }
}

/// Whether what the path or the body names is one of the world's targets.
fn names_target(row: &Row) -> bool {
    !matches!(
        row.needs,
        Needs::Nothing | Needs::Valid | Needs::Listing(_) | Needs::Whole(_) | Needs::SecurityAdmin
    )
}

/// What a list shows of pipelines that the caller may not read, or hides of those that it may.
fn leaks(check: &Check, world: &World, answer: &Answer) -> Option<String> {
    let Standing::Good(rights) = &world.callers[check.caller].standing else { return None };
    let readable =
        |target: &&Target| target.pipeline.exists && may(rights, Permission::Read, &target.pipeline);
    if check.row.path == METRICS {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let named = |target: &&Target| text.contains(&format!("pipeline_id=\"{}\"", target.pipeline.id));
        let leaked = world.targets.iter().find(|target| named(target) && !readable(target));
        return leaked.map(|target| format!("it shows `{}`, which may not be read", target.pipeline.id));
    }
    if !is_list(check.row) {
        return None;
    }
    let Ok(shown) = serde_json::from_slice::<Value>(&answer.body) else {
        return Some("the list is no JSON".to_owned());
    };
    // Every pipeline of the test has a run and a schedule, and none a dead letter.
    let (name, field, has_all) = match check.row.path {
        "/pipelines" => ("pipelines", "id", true),
        "/runs" => ("runs", "pipeline_id", true),
        "/dead-letters" => ("dead_letters", "pipeline_id", false),
        _ => ("schedules", "pipeline_id", true),
    };
    let Some(entries) = shown[name].as_array() else { return Some(format!("the list has no `{name}`")) };
    let shows = |target: &Target| entries.iter().any(|entry| entry[field] == target.pipeline.id.as_str());
    let complete = has_all && shown["next_cursor"].is_null() && check.form != Form::Filtered;
    world.targets.iter().find_map(|target| match (shows(target), readable(&target)) {
        (true, false) => Some(format!("it shows `{}`, which may not be read", target.pipeline.id)),
        (false, true) if complete => Some(format!("it hides `{}`, which may be read", target.pipeline.id)),
        _ => None,
    })
}
