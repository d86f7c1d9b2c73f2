//! What `store` can be asked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgs, TlsArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy the store to a file: of a server that runs (--url), or of a file that no server has open
    Backup(StoreBackupArgs),
    /// Read a store, or a copy of one, through, and say whether it is well; exit 1 when it is damaged
    Check(StoreCheckArgs),
    /// Write the file of a store that no server has open anew, without the room that is free in it
    Compact(StoreCompactArgs),
    /// Remove runs that have ended from a store that no server has open. A server does that by itself, as `retention_days`
    /// and `retention_runs` say
    Prune(StorePruneArgs),
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The store, such as sqlite:PATH [default: `store_url` of the configuration]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StoreBackupArgs {
    /// The new file; with --url a name in the server's `backup_dir`
    #[arg(value_name = "DEST")]
    pub(crate) dest: PathBuf,
    /// Replace an earlier copy of that name
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Have this server do it, with the key of an administrator in TASKIQ_FLOW_API_KEY
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "store"])]
    pub(crate) url: Option<String>,
    /// With --url: send the key over plain HTTP to another machine too
    #[arg(long, requires = "url")]
    pub(crate) allow_plain_http: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreCheckArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreCompactArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Print what it came to as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["older_than", "keep"]))]
pub(crate) struct StorePruneArgs {
    /// Those that ended longer ago than this, such as 30d
    #[arg(long, value_name = "DURATION")]
    pub(crate) older_than: Option<String>,
    /// All but so many, those that ended last
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Say how many would be removed, and remove none
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Print how many as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
