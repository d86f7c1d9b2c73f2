//! `audit prove`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use taskiq_flow::security::audit::{Leaves, Proof, ProofError, SignedCheckpoint};

use crate::args::{ProveCheckArgs, ProveCommand, ProveConsistencyArgs, ProveInclusionArgs};
use crate::output::{FAILED, Failure, json as print_json, line, note};

pub(super) fn run(command: ProveCommand) -> Result<ExitCode, Failure> {
    match command {
        ProveCommand::Inclusion(args) => print(inclusion(&args)?),
        ProveCommand::Consistency(args) => print(consistency(&args)?),
        ProveCommand::Check(args) => check(&args),
    }
}

fn print(proof: Proof) -> Result<ExitCode, Failure> {
    print_json(&json!(proof));
    Ok(ExitCode::SUCCESS)
}

fn inclusion(args: &ProveInclusionArgs) -> Result<Proof, Failure> {
    let leaves = Leaves::read(super::open(&args.files), Some(args.seq)).map_err(failure)?;
    leaves.prove_inclusion(args.seq, args.size.unwrap_or(leaves.size())).map_err(failure)
}

fn consistency(args: &ProveConsistencyArgs) -> Result<Proof, Failure> {
    let from = match args.from.parse::<u64>() {
        Ok(size) => size,
        Err(_) => newest(Path::new(&args.from))?.size,
    };
    let leaves = Leaves::read(super::open(&args.files), None).map_err(failure)?;
    leaves.prove_consistency(from, args.size.unwrap_or(leaves.size())).map_err(failure)
}

fn check(args: &ProveCheckArgs) -> Result<ExitCode, Failure> {
    let proof: Proof = serde_json::from_str(&super::read(&args.proof)?)
        .map_err(|error| Failure::wrong(format!("{}: this is no proof: {error}", args.proof.display())))?;
    let failed = |why: String| {
        note(why);
        Ok(ExitCode::from(FAILED))
    };
    let series = match super::series(&args.checkpoints, &args.public_key)? {
        Ok(series) => series,
        Err(fault) => return failed(fault),
    };
    if !proof.holds() {
        return failed("the proof does not hold".to_owned());
    }
    for tree in proof.trees() {
        let signed = series.checkpoints().iter().find(|checkpoint| checkpoint.size == tree.size);
        match signed {
            Some(checkpoint) if checkpoint.root == tree.root.0 => {}
            Some(_) => {
                return failed(format!("the tree of {} records is not the one that was signed", tree.size));
            }
            None => {
                return failed(format!(
                    "no checkpoint is of {} records: prove it with --size of one",
                    tree.size
                ));
            }
        }
    }
    line("the proof holds, and its trees were signed");
    if let Proof::Inclusion { record, .. } = &proof {
        line(record);
    }
    Ok(ExitCode::SUCCESS)
}

/// The last checkpoint of a file.
fn newest(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let text = super::read(path)?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    SignedCheckpoint::from_json(last)
        .map_err(|error| Failure::wrong(format!("--from: {}: {error}", path.display())))
}

fn failure(error: ProofError) -> Failure {
    match error {
        ProofError::Unsound { .. } => Failure::failed(error),
        error => Failure::wrong(error),
    }
}
