//! `audit verify`.

use std::process::ExitCode;

use serde_json::{Value, json};
use taskiq_flow::security::audit::{
    Checkpoint, SignedSeries, VerifyError, VerifyOptions, VerifyReport, escape_controls, verify_all,
};

use crate::args::AuditVerifyArgs;
use crate::output::{FAILED, Failure, json as print_json, line, note};

pub(super) fn run(args: &AuditVerifyArgs) -> Result<ExitCode, Failure> {
    let checkpoint = args.checkpoint.as_deref().map(|text| {
        let wrong =
            || Failure::wrong("--checkpoint: write it as SEQ:HASH, as an earlier `audit verify` printed it");
        text.parse::<Checkpoint>().map_err(|_| wrong())
    });
    let mut options = VerifyOptions { checkpoint: checkpoint.transpose()?, ..VerifyOptions::default() };
    if let (Some(checkpoints), Some(key)) = (&args.checkpoints, &args.public_key) {
        match super::series(checkpoints, key)? {
            Ok(series) => options.signed = Some(series),
            Err(fault) => {
                if args.json {
                    print_json(&json!({ "sound": false, "file": checkpoints, "fault": fault }));
                }
                note(fault);
                return Ok(ExitCode::from(FAILED));
            }
        }
    }
    match verify_all(super::open(&args.files), &options) {
        Ok(report) => {
            if args.json {
                print_json(&sound(&report, options.signed.as_ref()));
            } else {
                tell(&report, options.signed.as_ref());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(VerifyError::Bad { file, line: number, seq, fault }) => {
            let file = args.files.get(file).map(|path| path.display().to_string()).unwrap_or_default();
            if args.json {
                print_json(
                    &json!({ "sound": false, "file": file, "line": number, "seq": seq, "fault": fault.to_string() }),
                );
            }
            note(format!("{file}:{number}: {fault}"));
            Ok(ExitCode::from(FAILED))
        }
        Err(VerifyError::Io(error)) => Err(Failure::wrong(error)),
        Err(error) => Err(Failure::failed(error)),
    }
}

fn sound(report: &VerifyReport, series: Option<&SignedSeries>) -> Value {
    let gaps: Vec<Value> =
        report.gaps.iter().map(|gap| json!({ "seq": gap.seq, "detail": gap.detail })).collect();
    let signed = report.signed.zip(series).map(|(signed, series)| {
        let keys: Vec<Value> = series
            .keys()
            .iter()
            .map(|range| json!({ "key": range.key.to_string(), "from": range.from, "to": range.to }))
            .collect();
        json!({
            "checked": signed.checked, "trees_computed": signed.roots, "before_these_files": signed.before, "keys": keys,
        })
    });
    json!({
        "sound": true,
        "records": report.records,
        "first_seq": report.first_seq,
        "checkpoint": report.last.map(|last| last.to_string()),
        "gaps": gaps,
        "gap_records": report.gap_records,
        "clock_steps_back": report.clock_steps_back,
        "signed_checkpoints": signed,
    })
}

fn tell(report: &VerifyReport, series: Option<&SignedSeries>) {
    line(format!("sound: {} records", report.records));
    if let Some(last) = report.last {
        line(format!("checkpoint: {last}"));
    }
    if let Some((signed, series)) = report.signed.zip(series) {
        line(format!("signed checkpoints: {} agree", signed.checked));
        if signed.before > 0 {
            line(format!(
                "signed checkpoints of records before these files, not looked at: {}",
                signed.before
            ));
        }
        if signed.roots < signed.checked {
            let without = signed.checked - signed.roots;
            line(format!("compared by hash alone, as the first records are in files not given: {without}"));
        }
        for range in series.keys() {
            line(format!("key {} vouches for records {} to {}", range.key, range.from, range.to));
        }
    }
    for gap in &report.gaps {
        line(format!("gap noted at record {}: {}", gap.seq, escape_controls(&gap.detail)));
    }
    let unnamed = report.gap_records - report.gaps.len() as u64;
    if unnamed > 0 {
        line(format!("gaps noted besides, not named here: {unnamed}"));
    }
    if report.clock_steps_back > 0 {
        line(format!("the clock stepped back {} times", report.clock_steps_back));
    }
}
