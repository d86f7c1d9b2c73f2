//! What the program can be asked for.

mod audit;
mod cache;
mod dead;
mod pipelines;
mod runs;
mod schedules;
mod store;
mod token;
mod webhooks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::audit::{
    AuditCommand, AuditKeygenArgs, AuditShowArgs, AuditVerifyArgs, ProveCheckArgs, ProveCommand,
    ProveConsistencyArgs, ProveInclusionArgs,
};
pub(crate) use self::cache::{CacheClearArgs, CacheCommand, CacheShowArgs};
pub(crate) use self::dead::{DeadCommand, DeadLetterArgs, DeadListArgs};
pub(crate) use self::pipelines::{CheckArgs, DagArgs, DagFormat, RunArgs, SimulateArgs};
pub(crate) use self::runs::{
    RunsCancelArgs, RunsCommand, RunsControlArgs, RunsForkArgs, RunsListArgs, RunsShowArgs, RunsSignalArgs,
    RunsStatsArgs, RunsWatchArgs, TimesArgs, TriggerArgs,
};
pub(crate) use self::schedules::{
    ScheduleArgs, SchedulesBackfillArgs, SchedulesCommand, SchedulesHistoryArgs, SchedulesListArgs,
};
pub(crate) use self::store::{
    StoreArgs, StoreBackupArgs, StoreCheckArgs, StoreCommand, StoreCompactArgs, StorePruneArgs,
};
pub(crate) use self::token::{TokenCommand, TokenMintArgs, TokenRevokeArgs, TokenUnrevokeArgs};
pub(crate) use self::webhooks::{
    DeliveryStatus, WebhookDeliveriesArgs, WebhookReplayArgs, WebhookTestArgs, WebhooksCommand,
};

/// Runs pipelines (DAGs of tasks), shows them, and lets the right people, and nobody else, start and watch them over
/// HTTP and WebSocket.
#[derive(Debug, Parser)]
#[command(name = "taskiq-flow", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Serve(ServeArgs),
    /// Start a server on this machine with ready pipelines and a fresh admin key
    Demo(DemoArgs),
    /// Run one pipeline here and now, and print its result as JSON
    Run(RunArgs),
    /// Check configuration and pipeline files
    Check(CheckArgs),
    /// Draw the graph of a pipeline
    Dag(DagArgs),
    /// Play a pipeline in made-up worlds where tasks fail and servers die, and say what would become of it. No task is
    /// carried out
    Simulate(SimulateArgs),
    /// Start a run on a server
    Trigger(TriggerArgs),
    /// Look at the runs of a server, follow and control them
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Look at the steps that were given up, and do them again
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Look at the values that tasks have kept for later runs, and forget them
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Look at the schedules of a server, and control them
    #[command(subcommand)]
    Schedules(SchedulesCommand),
    /// Copy the store of runs, and look after its file
    #[command(subcommand)]
    Store(StoreCommand),
    /// Look at who is told of events over HTTP, test it, and send again what was not taken
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Make API keys, and manage those of a server
    #[command(subcommand)]
    Key(KeyCommand),
    /// Manage who may do what with which pipeline of a server
    #[command(subcommand)]
    Acl(AclCommand),
    /// Make tokens (JWT), and revoke those that a server would accept
    #[command(subcommand)]
    Token(TokenCommand),
    /// Read and verify the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Judge the security of a configuration, and explain what it decides
    #[command(subcommand)]
    Security(SecurityCommand),
    /// Test whether a server keeps what it promises
    #[command(subcommand)]
    Selftest(SelftestCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML, YAML or JSON) [default: ./taskiq-flow.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Pipeline files, or folders of them [default: ./pipelines if it is there]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) pipelines: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Port to listen on; 0 takes a free one
    #[arg(long)]
    pub(crate) port: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Port to listen on; 0 takes a free one
    #[arg(long)]
    pub(crate) port: Option<String>,
}

/// Which server, for the commands that speak to one. The key comes from `TASKIQ_FLOW_API_KEY`; where that is not set, the
/// client certificate is the credential.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,
    /// Send the key over plain HTTP to another machine too
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// How a server is met over TLS, for the commands that speak to one.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsArgs {
    /// Certificates (PEM) to trust, and no others
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate (PEM) to show to a server that asks for one [env: TASKIQ_FLOW_CLIENT_CERT]
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its private key (PEM) [env: TASKIQ_FLOW_CLIENT_KEY]
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key: prints it once, and the configuration entry that holds only its digest
    New(KeyNewArgs),
    /// Print the digest of a key that standard input holds, for `api_keys`
    Hash,
    /// Say whether standard input holds a key of the right shape, by its checksum; exit 1 when not. Asks no server
    Check,
    /// List the keys of a server
    List(RemoteListArgs),
    /// Make a key on a server: prints it once
    Create(KeyCreateArgs),
    /// Make a new key in the place of one on a server, which stays valid for a while
    Rotate(KeyRotateArgs),
    /// Revoke a key on a server, at once
    Revoke(KeyRevokeArgs),
}

/// What a key is to be.
#[derive(Debug, Args)]
pub(crate) struct KeySpec {
    /// Role of the key
    #[arg(long, default_value = "viewer")]
    pub(crate) role: String,
    /// Pipelines it may use; * inside a name stands for any text [default: all]
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub(crate) pipelines: Vec<String>,
    /// What it may do
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',', default_value = "read")]
    pub(crate) permissions: Vec<PermissionArg>,
    /// When it expires (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
    /// Networks and addresses it may be used from [default: anywhere]
    #[arg(long, value_name = "NETWORK", num_args = 1.., value_delimiter = ',')]
    pub(crate) allowed_ips: Vec<String>,
    /// What logs and audit records call it
    #[arg(long)]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyNewArgs {
    #[command(flatten)]
    pub(crate) spec: KeySpec,
    /// Print key and entry as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreateArgs {
    #[command(flatten)]
    pub(crate) spec: KeySpec,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRotateArgs {
    /// The key
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// How long the old key stays valid, such as 24h; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) overlap: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRevokeArgs {
    /// The key
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoteListArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AclCommand {
    /// List the access lists in force on a server
    List(RemoteListArgs),
    /// Print the access list of a pipeline as JSON
    Get(AclPipelineArgs),
    /// Set the access list of a pipeline; permissions that are not named are an admin's alone
    Set(AclSetArgs),
    /// Remove the access list of a pipeline: it is open then to every key and role that permits the action
    Remove(AclRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AclPipelineArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AclSetArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: String,
    /// Roles that may read
    #[arg(long, value_name = "ROLE", num_args = 0.., value_delimiter = ',')]
    pub(crate) read: Option<Vec<String>>,
    /// Roles that may execute
    #[arg(long, value_name = "ROLE", num_args = 0.., value_delimiter = ',')]
    pub(crate) execute: Option<Vec<String>>,
    /// Roles that may do everything
    #[arg(long, value_name = "ROLE", num_args = 0.., value_delimiter = ',')]
    pub(crate) admin: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AclRemoveArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: String,
    /// Let the configuration decide again, instead of having no access list
    #[arg(long)]
    pub(crate) to_configuration: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PermissionArg {
    Read,
    Execute,
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecurityCommand {
    /// Score a configuration, or a running server as it is seen from outside, and list what should not be left so; exit 1
    /// when something is grave
    Check(SecurityCheckArgs),
    /// Say whether somebody may do something, which rule decides, and what would turn that
    Explain(SecurityExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SecurityCheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Pipeline files, or folders of them, that the ACLs are for [default: ./pipelines if it is there]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) pipelines: Vec<PathBuf>,
    /// Look at this server instead, as anybody could who has no credential: no key is sent to it
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "pipelines"])]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// With --url: try no made-up keys. They are counted as guesses: afterwards the server may refuse this address for a minute
    #[arg(long, requires = "url")]
    pub(crate) no_guessing: bool,
    /// Print score and findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecurityExplainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Who: the id of a key
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: Option<String>,
    /// Who: the id or the name of an entry of client_certificates, such as CN=robot
    #[arg(long, value_name = "ID|NAME", conflicts_with = "key_id")]
    pub(crate) certificate: Option<String>,
    /// Who: the bearer of a token with these roles
    #[arg(long, num_args = 1.., value_delimiter = ',', conflicts_with_all = ["key_id", "certificate"])]
    pub(crate) roles: Option<Vec<String>>,
    /// Who: a caller without credential
    #[arg(long, conflicts_with_all = ["key_id", "certificate", "roles"])]
    pub(crate) anonymous: bool,
    /// May do what
    #[arg(long, value_enum)]
    pub(crate) permission: PermissionArg,
    /// On which pipeline [default: on any]
    #[arg(long, value_name = "ID")]
    pub(crate) pipeline: Option<String>,
    /// On what, where it is not one pipeline
    #[arg(long, value_name = "WHAT", conflicts_with = "pipeline", value_parser = ["any_pipeline", "whole_server", "security_admin", "myself"])]
    pub(crate) resource: Option<String>,
    /// Ask this server, with the key in TASKIQ_FLOW_API_KEY, and not a configuration here
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Print the whole answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SelftestCommand {
    /// Ask every route and every WebSocket topic as every kind of caller, and compare with what the contract says.
    ///
    /// Needs the key of an unrestricted admin in TASKIQ_FLOW_API_KEY. Makes pipelines, schedules and keys of its own,
    /// named selftest-…, and takes them away at the end. Keeps within the server's limits: by default it takes a few
    /// minutes, with --full much longer.
    Authz(SelftestAuthzArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SelftestAuthzArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// The server's configuration file: with its jwt_secret, tokens are tested too
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ask everything, not a sample: every bad credential on every route, every pipeline, below /api too
    #[arg(long)]
    pub(crate) full: bool,
    /// Stop after so many minutes; what has not been asked by then is listed
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) minutes: u64,
    /// Test this client certificate too: a PEM file of certificate and private key
    #[arg(long = "certificate", value_name = "FILE")]
    pub(crate) certificates: Vec<PathBuf>,
    /// A header for every request, such as one that a proxy would add
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub(crate) headers: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
