//! `audit`: the audit log.

mod keygen;
mod prove;
mod verify;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use taskiq_flow::security::audit::{
    AuditEvent, AuditFilter, AuditRecord, SignedSeries, VerifyKey, escape_controls, read_records,
    to_safe_json,
};

use crate::args::{AuditCommand, AuditShowArgs};
use crate::output::{Failure, line, note};

pub(crate) fn run(command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify(args) => verify::run(&args),
        AuditCommand::Show(args) => show(&args),
        AuditCommand::Keygen(args) => keygen::run(&args),
        AuditCommand::Prove(command) => prove::run(command),
    }
}

/// The files of a log, each opened when its turn comes.
fn open(files: &[PathBuf]) -> impl Iterator<Item = io::Result<BufReader<File>>> {
    files.iter().map(|path| {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        File::open(path).map(|file| BufReader::with_capacity(256 * 1024, file)).map_err(named)
    })
}

/// The text of a file.
fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))
}

/// Signed checkpoints, checked; the inner error names the first that is not good.
fn series(checkpoints: &Path, public_key: &Path) -> Result<Result<SignedSeries, String>, Failure> {
    let key = VerifyKey::from_pem(&read(public_key)?)
        .map_err(|error| Failure::wrong(format!("{}: {error}", public_key.display())))?;
    let series = SignedSeries::check(&read(checkpoints)?, key);
    Ok(series.map_err(|error| format!("{}:{}: {}", checkpoints.display(), error.line, error.fault)))
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
        run_id: args.run.clone(),
        ip: args.ip,
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
