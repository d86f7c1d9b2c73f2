//! Which rules a decision looked at.

use serde::Serialize;

use super::{Rule, Verdict};

/// Is told of each rule that a decision looks at, in order.
pub(super) trait Trace {
    /// The rule was looked at and left the decision to those after it.
    fn goes_on(&mut self, rule: Rule);
    /// The rule that decided.
    fn decided(&mut self, verdict: Verdict);
}

/// What a rule said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing: the rules after it were asked.
    GoesOn,
    /// Yes.
    Allows,
    /// No.
    Denies,
}

/// A rule that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Look {
    /// The rule.
    pub rule: Rule,
    /// What it said.
    pub finding: Finding,
}

/// Nobody wants to know.
impl Trace for () {
    fn goes_on(&mut self, _: Rule) {}
    fn decided(&mut self, _: Verdict) {}
}

impl Trace for Vec<Look> {
    fn goes_on(&mut self, rule: Rule) {
        self.push(Look { rule, finding: Finding::GoesOn });
    }

    fn decided(&mut self, verdict: Verdict) {
        let finding = if verdict.allowed { Finding::Allows } else { Finding::Denies };
        self.push(Look { rule: verdict.rule, finding });
    }
}
