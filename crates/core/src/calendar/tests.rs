use std::str::FromStr;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from_str(text).unwrap()
}

fn cron(text: &str, zone: &str, rules: &ScheduleRules) -> Calendar {
    Calendar::new(&Timing::Cron(text.to_owned()), zone, rules, at("2026-01-01T00:00:00Z")).unwrap()
}

fn every(seconds: u64, rules: &ScheduleRules) -> Calendar {
    let timing = Timing::Interval(Duration::from_secs(seconds));
    Calendar::new(&timing, "UTC", rules, at("2026-01-01T00:00:00Z")).unwrap()
}

fn texts(times: impl IntoIterator<Item = Timestamp>) -> Vec<String> {
    times.into_iter().map(|time| time.to_string()[..16].to_owned()).collect()
}

fn jittered(seconds: u64) -> ScheduleRules {
    ScheduleRules { jitter: Some(Duration::from_secs(seconds)), ..ScheduleRules::default() }
}

fn catching_up(catch_up: CatchUp) -> ScheduleRules {
    ScheduleRules { catch_up, ..ScheduleRules::default() }
}

#[test]
fn a_fixed_time_comes_once_a_day_across_both_changes_of_the_clock() {
    let nightly = cron("30 2 * * *", "Europe/Paris", &ScheduleRules::default());
    let next = |after| nightly.after(at(after)).unwrap().to_string();
    assert_eq!(next("2026-03-27T12:00:00Z"), "2026-03-28T01:30:00.000Z");
    assert_eq!(next("2026-03-28T12:00:00Z"), "2026-03-29T01:00:00.000Z", "02:30 does not exist: at 03:00");
    assert_eq!(next("2026-03-29T01:00:00Z"), "2026-03-30T00:30:00.000Z");
    assert_eq!(next("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00.000Z", "the first 02:30 of two");
    assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00.000Z", "and not the second");
}

#[test]
fn a_repeated_hour_has_every_quarter_twice_and_a_missing_one_none() {
    let quarters = cron("*/15 * * * *", "America/New_York", &ScheduleRules::default());
    // 1 November 2026: 02:00 EDT becomes 01:00 EST. 8 March 2026: 02:00 EST becomes 03:00 EDT. Neither shows in UTC.
    for (from, to) in
        [("2026-11-01T04:50:00Z", "2026-11-01T07:10:00Z"), ("2026-03-08T06:50:00Z", "2026-03-08T08:10:00Z")]
    {
        let times: Vec<_> = quarters.between(at(from), at(to)).collect();
        let minutes = at(to).since(at(from)).as_secs() / 60;
        assert_eq!(times.len() as u64, minutes / 15, "{times:?}");
        assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) == Duration::from_secs(900)), "{times:?}");
    }
}

#[test]
fn cron_has_five_or_six_fields() {
    let seconds = cron("*/10 * * * * *", "UTC", &ScheduleRules::default());
    let next = seconds.after(at("2026-01-01T00:00:01Z")).unwrap();
    assert_eq!(next.to_string(), "2026-01-01T00:00:10.000Z");
    for bad in ["* * *", "61 * * * *", "x * * * *", ""] {
        let timing = Timing::Cron(bad.to_owned());
        let error = Calendar::new(&timing, "UTC", &ScheduleRules::default(), at("2026-01-01T00:00:00Z"));
        assert!(error.unwrap_err().to_string().starts_with("cron: "), "{bad}");
    }
}

#[test]
fn intervals_count_from_the_start_or_from_and_one_offs_come_once() {
    let five = every(300, &ScheduleRules::default());
    let next = |calendar: &Calendar, after| calendar.after(at(after)).map(|time| time.to_string());
    assert_eq!(next(&five, "2026-01-01T00:00:00Z").unwrap(), "2026-01-01T00:05:00.000Z");
    assert_eq!(next(&five, "2026-01-01T00:07:00Z").unwrap(), "2026-01-01T00:10:00.000Z");
    assert_eq!(next(&five, "2026-01-01T00:10:00Z").unwrap(), "2026-01-01T00:15:00.000Z");
    let rules = ScheduleRules {
        from: Some(at("2026-01-01T00:02:00Z")),
        until: Some(at("2026-01-01T00:12:00Z")),
        ..ScheduleRules::default()
    };
    let bounded = every(300, &rules);
    let between = texts(bounded.between(at("2025-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
    assert_eq!(between, ["2026-01-01T00:02", "2026-01-01T00:07", "2026-01-01T00:12"], "both ends count");
    let timing = Timing::At(at("2026-02-01T00:00:00Z"));
    let once = Calendar::new(&timing, "UTC", &ScheduleRules::default(), at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(next(&once, "2026-01-31T00:00:00Z").unwrap(), "2026-02-01T00:00:00.000Z");
    assert_eq!(next(&once, "2026-02-01T00:00:00Z"), None);
}

#[test]
fn a_cron_expression_has_its_times_from_and_until() {
    let rules = ScheduleRules {
        from: Some(at("2026-01-05T02:00:00Z")),
        until: Some(at("2026-01-06T02:00:00Z")),
        ..ScheduleRules::default()
    };
    let nightly = cron("0 2 * * *", "UTC", &rules);
    let times = nightly.between(at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
    assert_eq!(texts(times), ["2026-01-05T02:00", "2026-01-06T02:00"]);
    assert_eq!(nightly.after(at("2026-01-06T02:00:00Z")), None);
}

#[test]
fn jitter_is_the_same_again_stays_below_its_bound_and_differs_by_schedule_and_time() {
    let hourly = every(3600, &jittered(600));
    let times: Vec<_> = hourly.between(at("2026-01-01T00:00:00Z"), at("2026-01-20T00:00:00Z")).collect();
    let delay = |id: &str, time: Timestamp| hourly.start_of(id, time).since(time).as_millis();
    let again = every(3600, &jittered(600));
    for time in &times {
        assert_eq!(hourly.start_of("a", *time), again.start_of("a", *time), "after a restart");
        assert!(delay("a", *time) < 600_000);
    }
    let mean = times.iter().map(|time| delay("a", *time)).sum::<u128>() / times.len() as u128;
    assert!((250_000..350_000).contains(&mean), "{mean} ms of 600,000 on average");
    let apart = times.iter().filter(|time| delay("a", **time).abs_diff(delay("b", **time)) > 1000).count();
    assert!(apart > times.len() * 9 / 10, "two schedules start together {apart} of {}", times.len());
}

#[test]
fn jitter_never_moves_a_start_to_the_next_time() {
    let minutely = every(60, &jittered(3600));
    for time in minutely.between(at("2026-01-01T00:00:00Z"), at("2026-01-01T12:00:00Z")) {
        assert!(minutely.start_of("a", time).since(time) < Duration::from_secs(60));
    }
}

#[test]
fn nothing_is_due_before_its_start() {
    let hourly = every(3600, &jittered(600));
    let first = at("2026-01-01T01:00:00Z");
    let start = hourly.start_of("a", first);
    assert_eq!(hourly.due("a", first, Timestamp::from_millis(start.as_millis() - 1)), None);
    assert_eq!(hourly.due("a", first, start), Some(Due { fire: Some(first), left_out: None }));
}

#[test]
fn what_was_missed_is_left_out_made_up_for_once_or_each_time() {
    let first = at("2026-01-01T01:00:00Z");
    let last = at("2026-01-01T05:00:00Z");
    let now = at("2026-01-01T05:20:00Z");
    for hourly in [
        |rules: &ScheduleRules| every(3600, rules),
        |rules: &ScheduleRules| cron("0 * * * *", "Asia/Kolkata", rules),
    ] {
        // The cron expression is read at +05:30: half past in UTC.
        let shift = hourly(&ScheduleRules::default()).after(at("2026-01-01T00:30:00Z")).unwrap();
        let [first, last, now] = [first, last, now].map(|time| time.plus(shift.since(first)));
        let due = |catch_up, now| hourly(&catching_up(catch_up)).due("a", first, now);
        let before = |time: Timestamp| Timestamp::from_millis(time.as_millis() - 3_600_000);
        let one = Due { fire: Some(last), left_out: Some((first, before(last))) };
        assert_eq!(due(CatchUp::One, now), Some(one));
        assert_eq!(due(CatchUp::All, now), Some(Due { fire: Some(first), left_out: None }));
        assert_eq!(due(CatchUp::Skip, now), Some(Due { fire: None, left_out: Some((first, last)) }));
        // In time is in time.
        let soon = last.plus(Duration::from_secs(30));
        assert_eq!(due(CatchUp::Skip, soon), Some(one));
        let on_time = first.plus(Duration::from_millis(3));
        for catch_up in [CatchUp::Skip, CatchUp::One, CatchUp::All] {
            assert_eq!(due(catch_up, on_time), Some(Due { fire: Some(first), left_out: None }));
        }
    }
}

#[test]
fn a_start_that_jitter_puts_off_is_not_made_up_for_early() {
    // Down over two times, and back after the third has come but before it starts.
    let hourly = every(3600, &jittered(3000));
    let times: Vec<_> = hourly.between(at("2026-01-01T00:30:00Z"), at("2026-01-03T00:30:00Z")).collect();
    let late = |time: Timestamp| hourly.start_of("a", time).since(time) > Duration::from_secs(600);
    let third = (2..times.len()).find(|place| late(times[*place])).unwrap();
    let [first, second, third] = [times[third - 2], times[third - 1], times[third]];
    let due = hourly.due("a", first, third.plus(Duration::from_secs(300)));
    assert_eq!(due, Some(Due { fire: Some(second), left_out: Some((first, first)) }));
}

#[test]
fn only_the_last_thousand_of_many_missed_are_made_up_for_and_found_at_once() {
    let rules = catching_up(CatchUp::All);
    let first = at("2020-01-01T00:00:10Z");
    let now = at("2026-01-01T00:00:05Z");
    // 190 million seconds: walking through them would take minutes.
    let secondly = cron("* * * * * *", "Europe/Vienna", &rules);
    let due = secondly.due("a", first, now).unwrap();
    assert_eq!(due.fire, Some(at("2025-12-31T23:43:26Z")));
    assert_eq!(due.left_out, Some((first, at("2025-12-31T23:43:25Z"))));
    let fire = due.fire.unwrap();
    assert_eq!(secondly.between(fire, now).count(), MOST_MISSED);
    assert_eq!(secondly.due("a", fire, now), Some(Due { fire: Some(fire), left_out: None }));
}

#[test]
fn a_one_off_that_was_missed_is_made_up_for_unless_it_is_to_be_left_out() {
    let when = at("2026-01-01T01:00:00Z");
    let due = |catch_up| {
        let calendar = Calendar::new(&Timing::At(when), "UTC", &catching_up(catch_up), when).unwrap();
        calendar.due("a", when, at("2026-03-01T00:00:00Z")).unwrap()
    };
    assert_eq!(due(CatchUp::One), Due { fire: Some(when), left_out: None });
    assert_eq!(due(CatchUp::All), Due { fire: Some(when), left_out: None });
    assert_eq!(due(CatchUp::Skip), Due { fire: None, left_out: Some((when, when)) });
}

#[test]
fn a_time_that_is_none_any_more_is_left_out() {
    let nightly = cron("0 2 * * *", "UTC", &ScheduleRules::default());
    let stored = at("2026-01-05T01:00:00Z");
    let left_out = Some(Due { fire: None, left_out: Some((stored, stored)) });
    assert_eq!(nightly.due("a", stored, at("2026-01-05T01:30:00Z")), left_out, "the next one is at two");
    let two = at("2026-01-05T02:00:00Z");
    assert_eq!(nightly.due("a", stored, two), Some(Due { fire: Some(two), left_out: None }));
}
