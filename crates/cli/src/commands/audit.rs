//! `audit`: the audit log.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use serde_json::{Value, json};
use taskiq_flow::security::audit::{
    AuditEvent, AuditFilter, AuditRecord, Checkpoint, VerifyError, VerifyOptions, VerifyReport,
    escape_controls, read_records, to_safe_json, verify_with,
};

use crate::args::{AuditCommand, AuditShowArgs, AuditVerifyArgs};
use crate::output::{FAILED, Failure, json as print_json, line, note};

pub(crate) fn run(command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify(args) => verify(&args),
        AuditCommand::Show(args) => show(&args),
    }
}

fn verify(args: &AuditVerifyArgs) -> Result<ExitCode, Failure> {
    let checkpoint = args.checkpoint.as_deref().map(|text| {
        let wrong =
            || Failure::wrong("--checkpoint: write it as SEQ:HASH, as an earlier `audit verify` printed it");
        text.parse::<Checkpoint>().map_err(|_| wrong())
    });
    let options = VerifyOptions { checkpoint: checkpoint.transpose()?, after: None };
    let path = args.file.display();
    let file = File::open(&args.file).map_err(|error| Failure::wrong(format!("{path}: {error}")))?;
    match verify_with(BufReader::new(file), &options) {
        Ok(report) => {
            if args.json {
                print_json(&sound(&report))
            } else {
                tell(&report)
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(VerifyError::Bad { line: number, seq, fault }) => {
            if args.json {
                print_json(
                    &json!({ "sound": false, "line": number, "seq": seq, "fault": fault.to_string() }),
                );
            }
            note(format!("{path}:{number}: {fault}"));
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => Err(Failure::wrong(format!("{path}: {error}"))),
    }
}

fn sound(report: &VerifyReport) -> Value {
    let gaps: Vec<Value> =
        report.gaps.iter().map(|gap| json!({ "seq": gap.seq, "detail": gap.detail })).collect();
    json!({
        "sound": true,
        "records": report.records,
        "first_seq": report.first_seq,
        "checkpoint": report.last.map(|last| last.to_string()),
        "gaps": gaps,
        "clock_steps_back": report.clock_steps_back,
    })
}

fn tell(report: &VerifyReport) {
    line(format!("sound: {} records", report.records));
    if let Some(last) = report.last {
        line(format!("checkpoint: {last}"));
    }
    for gap in &report.gaps {
        line(format!("gap noted at record {}: {}", gap.seq, escape_controls(&gap.detail)));
    }
    if report.clock_steps_back > 0 {
        line(format!("the clock stepped back {} times", report.clock_steps_back));
    }
}

fn show(args: &AuditShowArgs) -> Result<ExitCode, Failure> {
    let event = args.event.as_deref().map(|text| {
        let known = AuditEvent::ALL.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ");
        text.parse::<AuditEvent>()
            .map_err(|_| Failure::wrong(format!("--event: `{text}` is none; there are {known}")))
    });
    let mut filter = AuditFilter {
        event: event.transpose()?,
        principal: args.principal.clone(),
        pipeline_id: args.pipeline.clone(),
        ..AuditFilter::default()
    };
    let (mut left, mut unsound) = (args.limit, 0);
    while left > 0 {
        filter.limit = left;
        let page = read_records(&args.file, &filter)
            .map_err(|error| Failure::wrong(format!("{}: {error}", args.file.display())))?;
        unsound += page.unsound_lines;
        left -= page.records.len().min(left);
        for record in &page.records {
            line(if args.json { to_safe_json(record).map_err(Failure::failed)? } else { text(record) });
        }
        match page.next_cursor {
            Some(cursor) => filter.cursor = Some(cursor),
            None => break,
        }
    }
    if unsound > 0 {
        note(format!(
            "{unsound} lines are no sound records: run `taskiq-flow audit verify {}`",
            args.file.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(record: &AuditRecord) -> String {
    let value = serde_json::to_value(record).unwrap_or_default();
    let of = |field: &str| match &value[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => escape_controls(text).to_string(),
        other => other.to_string(),
    };
    let principal = value["principal"]["id"]
        .as_str()
        .map_or_else(|| "-".to_owned(), |id| escape_controls(id).to_string());
    let request = format!("{} {}", of("method"), of("path"));
    format!(
        "{} {:>6}  {:<24} {:<9} {principal:<16} {:<15} {request}  {}",
        of("time"),
        of("seq"),
        of("event"),
        of("outcome"),
        of("ip"),
        of("detail"),
    )
}
