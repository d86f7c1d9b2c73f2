//! What was found.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::plan::{Check, Form, path};
use crate::world::World;

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The request, such as `GET /pipelines/a` or `WebSocket /ws`.
    pub what: String,
    /// Who asked.
    pub caller: String,
    /// What is wrong.
    pub fault: String,
}

/// How many requests of a route by a caller were made, and how many were answered as they must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made.
    pub made: usize,
    /// Not as they must be.
    pub wrong: usize,
}

/// The result of a matrix.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What is not as it must be.
    pub findings: Vec<Finding>,
    /// How many requests were made.
    pub requests: usize,
    /// How many sockets were opened.
    pub sockets: usize,
    /// What could not be looked at, and why.
    pub skipped: Vec<String>,
    callers: Vec<String>,
    table: BTreeMap<(usize, String), BTreeMap<usize, Tally>>,
}

impl Report {
    /// An empty one.
    pub fn new(world: &World) -> Self {
        let callers = world.callers.iter().map(|caller| caller.name.clone()).collect();
        Self { callers, ..Self::default() }
    }

    /// Whether everything was as it must be.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn request(&mut self, check: &Check, place: usize, world: &World, fault: Option<String>) {
        self.requests += 1;
        let route = format!("{} {}", check.row.method, check.row.path);
        self.count((place, route), check.caller, fault.is_some());
        if let Some(fault) = fault {
            let method = if check.form == Form::Head { "HEAD" } else { check.row.method };
            self.find(format!("{method} {}", path(check, world)), check.caller, fault);
        }
    }

    pub(crate) fn socket(&mut self, caller: usize, path: &str, fault: Option<String>) {
        self.sockets += 1;
        self.count((usize::MAX, format!("topics of {path}")), caller, fault.is_some());
        if let Some(fault) = fault {
            self.find(format!("WebSocket {path}"), caller, fault);
        }
    }

    /// For people: a row for each route, a column for each caller. `+` is as it must be, `X` is not, `.` was not asked.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let width = self.table.keys().map(|(_, route)| route.len()).max().unwrap_or(0);
        // Writing to a String cannot fail.
        for (number, caller) in self.callers.iter().enumerate() {
            let _ = writeln!(text, "{:width$} {}{caller}", "", "| ".repeat(number));
        }
        for ((_, route), cells) in &self.table {
            let _ = write!(text, "{route:width$}");
            for caller in 0..self.callers.len() {
                let mark = match cells.get(&caller) {
                    None => '.',
                    Some(tally) if tally.wrong > 0 => 'X',
                    Some(_) => '+',
                };
                let _ = write!(text, " {mark}");
            }
            text.push('\n');
        }
        for finding in &self.findings {
            let _ = writeln!(text, "\n{} by {}: {}", finding.what, finding.caller, finding.fault);
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "\nnot looked at: {skipped}");
        }
        let _ = writeln!(
            text,
            "\n{} requests and {} sockets: {}",
            self.requests,
            self.sockets,
            match self.findings.len() {
                0 => "all as they must be".to_owned(),
                1 => "1 is not as it must be".to_owned(),
                many => format!("{many} are not as they must be"),
            }
        );
        text
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.table.iter().map(|((_, route), cells)| self.row(route, cells)).collect();
        let finding = |finding: &Finding| json!({"what": finding.what, "caller": finding.caller, "fault": finding.fault});
        json!({
            "passed": self.is_good(),
            "requests": self.requests,
            "sockets": self.sockets,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "skipped": self.skipped,
            "callers": self.callers,
            "matrix": rows,
        })
    }

    fn row(&self, route: &str, cells: &BTreeMap<usize, Tally>) -> Value {
        let cells = cells.iter().map(|(caller, tally)| {
            json!({"caller": self.callers[*caller], "requests": tally.made, "wrong": tally.wrong})
        });
        json!({"route": route, "cells": cells.collect::<Vec<_>>()})
    }

    fn count(&mut self, row: (usize, String), caller: usize, wrong: bool) {
        let tally = self.table.entry(row).or_default().entry(caller).or_default();
        tally.made += 1;
        tally.wrong += usize::from(wrong);
    }

    fn find(&mut self, what: String, caller: usize, fault: String) {
        let caller = self.callers[caller].clone();
        self.findings.push(Finding { what, caller, fault });
    }
}
