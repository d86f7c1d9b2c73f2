//! The fields of a schedule.

use std::collections::HashSet;

use crate::calendar::{Calendar, MIN_INTERVAL, check_timezone};
use crate::definition::{CatchUp, Overlap, ScheduleRules, ScheduleSpec, Timing};
use crate::document::Node;
use crate::time::Timestamp;

use super::reader::{Fields, Reader, listed};

const FIELDS: &[&str] = &[
    "id",
    "cron",
    "interval",
    "at",
    "timezone",
    "parameters",
    "enabled",
    "catch_up",
    "overlap",
    "jitter",
    "from",
    "until",
];

const TIMINGS: [&str; 3] = ["cron", "interval", "at"];

impl Reader<'_> {
    pub(super) fn schedules(&mut self, node: &Node) -> Vec<ScheduleSpec> {
        let Some(entries) = self.sequence(node, "a list of schedules", "start the entry with `- `") else {
            return Vec::new();
        };
        let mut ids = HashSet::new();
        let mut schedules = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let Some(schedule) = self.schedule(entry, place) else { continue };
            if !ids.insert(schedule.id.clone()) {
                let message = format!("two schedules are called `{}`", schedule.id);
                self.wrong(entry.get("id").unwrap_or(entry), message, "give one of them another id");
            }
            schedules.push(schedule);
        }
        schedules
    }

    fn schedule(&mut self, node: &Node, place: usize) -> Option<ScheduleSpec> {
        let fields = self.fields(node, "a schedule", FIELDS)?;
        let id = match fields.get("id") {
            // The id of a schedule stands in URLs as that of a pipeline does.
            Some(id) => self.pipeline_id(id).map(String::from),
            None => Some(format!("schedule-{}", place + 1)),
        };
        let timing = self.timing(fields);
        let timezone = match fields.get("timezone") {
            Some(zone) => self.timezone(zone),
            None => Some("UTC".to_owned()),
        };
        let parameters = self.constants(fields.get("parameters"));
        let enabled = fields.get("enabled").map_or(Some(true), |enabled| self.flag(enabled));
        let rules = self.schedule_rules(fields);
        let spec = ScheduleSpec {
            id: id?,
            timing: timing?,
            timezone: timezone?,
            parameters,
            enabled: enabled?,
            rules: rules?,
        };
        // What fits no time would do: the day on which it is made has no say in that.
        let made = Timestamp::from_millis(0);
        match Calendar::new(&spec.timing, &spec.timezone, &spec.rules, made) {
            Ok(_) => Some(spec),
            Err(error) => {
                self.wrong(fields.get(error.field).unwrap_or(node), error.message, error.help);
                None
            }
        }
    }

    fn timing(&mut self, fields: Fields<'_>) -> Option<Timing> {
        let given: Vec<_> = TIMINGS.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
        let (name, node) = match given.as_slice() {
            [one] => *one,
            [] => {
                let help = "add `cron: \"0 2 * * *\"`, `interval: 5m` or `at: 2030-01-01T00:00:00Z`";
                self.wrong(fields.node, format!("a schedule needs one of {}", listed(&TIMINGS)), help);
                return None;
            }
            [_, (_, second), ..] => {
                let message = format!("a schedule has only one of {}", listed(&TIMINGS));
                self.wrong(second, message, "make two entries");
                return None;
            }
        };
        match name {
            "cron" => {
                let text = self.text(node)?;
                if !matches!(text.split_whitespace().count(), 5 | 6) {
                    let help = "such as `0 2 * * *`: minute, hour, day of month, month, day of week; seconds may stand first";
                    self.wrong(node, "a cron expression has 5 or 6 fields", help);
                    return None;
                }
                Some(Timing::Cron(text.to_owned()))
            }
            "interval" => {
                let every = self.duration(node)?;
                if every < MIN_INTERVAL {
                    self.wrong(node, "expected a duration of at least 1s", "");
                    return None;
                }
                Some(Timing::Interval(every))
            }
            _ => self.point_in_time(node).map(Timing::At),
        }
    }

    /// Every field is looked at, so that all mistakes are told at once.
    fn schedule_rules(&mut self, fields: Fields<'_>) -> Option<ScheduleRules> {
        let before = self.count();
        let mut rules = ScheduleRules::default();
        if let Some(node) = fields.get("catch_up") {
            rules.catch_up = self.choice(node, CatchUp::WORDS).unwrap_or_default();
        }
        if let Some(node) = fields.get("overlap") {
            rules.overlap = self.choice(node, Overlap::WORDS).unwrap_or_default();
        }
        rules.jitter = fields.get("jitter").and_then(|node| self.time_limit(node));
        rules.from = fields.get("from").and_then(|node| self.point_in_time(node));
        rules.until = fields.get("until").and_then(|node| self.point_in_time(node));
        (self.count() == before).then_some(rules)
    }

    fn point_in_time(&mut self, node: &Node) -> Option<Timestamp> {
        let time = self.text(node)?.parse();
        let help = "write date, time and offset, such as `2030-01-01T12:00:00Z`";
        time.map_err(|_| self.wrong(node, "this is no point in time (RFC 3339)", help)).ok()
    }

    fn timezone(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node)?;
        match check_timezone(name) {
            Ok(()) => Some(name.to_owned()),
            Err(error) => {
                self.wrong(node, error.message, error.help);
                None
            }
        }
    }
}
