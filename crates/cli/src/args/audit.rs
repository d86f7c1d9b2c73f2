//! What `audit` can be asked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check chain and signed checkpoints; exit 1 and the first bad record when something is wrong
    Verify(AuditVerifyArgs),
    /// Print records, newest first
    Show(AuditShowArgs),
    /// Make a key that signs checkpoints: the private half into a file, the public half on standard output
    Keygen(AuditKeygenArgs),
    /// Prove something about a log to somebody who has only its checkpoints
    #[command(subcommand)]
    Prove(ProveCommand),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerifyArgs {
    /// Audit log; of a rotated one all its files, the oldest first
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// A record that must be there, as an earlier `verify` printed it; finds a cut-off end
    #[arg(long, value_name = "SEQ:HASH")]
    pub(crate) checkpoint: Option<String>,
    /// Signed checkpoints that the log must agree with, best from another machine; finds rewritten logs too
    #[arg(long, value_name = "FILE", requires = "public_key")]
    pub(crate) checkpoints: Option<PathBuf>,
    /// The first key that signed them, a PEM file; later keys follow from it
    #[arg(long, value_name = "FILE", requires = "checkpoints")]
    pub(crate) public_key: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeygenArgs {
    /// File for the private key; must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProveCommand {
    /// That a record is in the log: prints a proof
    Inclusion(ProveInclusionArgs),
    /// That the log only grew since a checkpoint: prints a proof
    Consistency(ProveConsistencyArgs),
    /// Check a proof against signed checkpoints; exit 1 when it does not hold
    Check(ProveCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ProveInclusionArgs {
    /// Number of the record
    #[arg(long, value_name = "N")]
    pub(crate) seq: u64,
    /// Size of the tree it is proved to be in, as a checkpoint names it [default: all records]
    #[arg(long, value_name = "N")]
    pub(crate) size: Option<u64>,
    /// Audit log from its first record; of a rotated one all its files, the oldest first
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProveConsistencyArgs {
    /// The earlier checkpoint: its size, or a file of checkpoints whose last one is meant
    #[arg(long, value_name = "N|FILE")]
    pub(crate) from: String,
    /// Size of the later tree [default: all records]
    #[arg(long, value_name = "N")]
    pub(crate) size: Option<u64>,
    /// Audit log from its first record; of a rotated one all its files, the oldest first
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProveCheckArgs {
    /// Proof, as `prove` printed it
    #[arg(value_name = "PROOF")]
    pub(crate) proof: PathBuf,
    /// Signed checkpoints; the trees of the proof must be among them
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoints: PathBuf,
    /// The first key that signed them, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AuditShowArgs {
    /// Audit log
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only this kind of event, such as authentication.failure
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// Only of this principal, by id
    #[arg(long)]
    pub(crate) principal: Option<String>,
    /// Only about this pipeline
    #[arg(long)]
    pub(crate) pipeline: Option<String>,
    /// Only about this run
    #[arg(long)]
    pub(crate) run: Option<String>,
    /// Only from this address
    #[arg(long)]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}
