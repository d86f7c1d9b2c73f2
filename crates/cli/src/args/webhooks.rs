//! What `webhooks` can be asked for.

use clap::{Args, Subcommand, ValueEnum};

use super::{RemoteArgs, RemoteListArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List the webhooks of a server, with what waits for them and how they fare
    List(RemoteListArgs),
    /// Send a signed test event to one; exit 1 when it is not taken
    Test(WebhookTestArgs),
    /// List what waits for one, or was given up
    Deliveries(WebhookDeliveriesArgs),
    /// Have what was given up tried again
    Replay(WebhookReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WebhookTestArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookDeliveriesArgs {
    /// The webhook's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Those that were given up, or those that wait
    #[arg(long, value_enum, default_value = "dead")]
    pub(crate) status: DeliveryStatus,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DeliveryStatus {
    Dead,
    Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookReplayArgs {
    /// The webhook's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The delivery, as `webhooks deliveries` shows it
    #[arg(value_name = "DELIVERY", required_unless_present = "all")]
    pub(crate) delivery: Option<String>,
    /// Everything that was given up
    #[arg(long, conflicts_with = "delivery")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

impl DeliveryStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Waiting => "waiting",
        }
    }
}
