//! `serve`: the server.

mod reload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use taskiq_flow::broker::InMemoryBroker;
use taskiq_flow::config::{Loaded, Sources};
use taskiq_flow::core::definition::Pipeline;
use taskiq_flow::posture::{self, Facts, Posture, Severity};
use taskiq_flow::{Server, TaskiqFlowConfig, create_visualization_api};

use crate::args::ServeArgs;
use crate::output::{Failure, note};
use crate::{commands, logging};

/// Where pipelines are looked for when nothing else is said.
pub(crate) const DEFAULT_PIPELINES: &str = "pipelines";

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let mut sources = commands::sources(args.config.config.as_deref());
    for (field, value) in [("host", args.host), ("port", args.port)] {
        if let Some(value) = value {
            sources = sources.set(field, value, format!("--{field}"));
        }
    }
    let loaded = commands::configuration(&sources)?;
    let pipelines = commands::pipelines(paths(args.pipelines))?;
    logging::start(&loaded.config)?;
    commands::runtime()?.block_on(serve(&sources, loaded, pipelines, |_, _| {}))
}

/// Starts a server, says so by `started`, and serves until the process is asked to end. On SIGHUP the `sources` are
/// read again.
pub(crate) async fn serve(
    sources: &Sources,
    loaded: Loaded,
    pipelines: Vec<Pipeline>,
    started: impl FnOnce(&Server, std::net::SocketAddr),
) -> Result<ExitCode, Failure> {
    // A port that is taken is found before anything is opened or written.
    let listener = taskiq_flow::bind(&loaded.config).await.map_err(Failure::failed)?;
    let https = loaded.config.require_https && loaded.config.security_enabled;
    let count = pipelines.len();
    let (config, file) = (loaded.config.clone(), loaded.file.clone());
    let mut api = create_visualization_api(InMemoryBroker::new(), loaded.config).reload_from(sources.clone());
    for pipeline in pipelines {
        api = api.pipeline(pipeline);
    }
    let server = api.start().await.map_err(Failure::wrong)?;
    warn(&server, &config, file.as_deref());
    let address = listener.local_addr().map_err(Failure::failed)?;
    let scheme = if server.tls().is_some() { "https" } else { "http" };
    tracing::info!(%address, scheme, pipelines = count, "listening");
    if https && server.tls().is_none() {
        tracing::info!(
            "plain HTTP is refused; TLS ends in a proxy (see deploy/), or here with tls_cert and tls_key; set require_https = false to try things out"
        );
    }
    started(&server, address);
    let (settings, tls) = (server.reload(), server.tls().cloned());
    tokio::select! {
        () = server.serve_on(listener, taskiq_flow::stop_signal()) => {}
        () = reload::on_hangup(sources, &settings, tls.as_ref()) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what should not be left so.
fn warn(server: &Server, config: &TaskiqFlowConfig, file: Option<&Path>) {
    let ids: Vec<_> =
        server.engine().pipelines().iter().map(|registered| registered.id().to_string()).collect();
    if ids.is_empty() {
        note(format!(
            "warning: there are no pipelines: name files or a folder with --pipelines, or make a folder `{DEFAULT_PIPELINES}` here"
        ));
    }
    let settings = server.guard().settings();
    let facts = Facts::new(config, &settings).file(file).pipelines(&ids);
    tell(&posture::look(&facts));
}

/// What a server says of its posture when it starts.
fn tell(posture: &Posture) {
    let mut advice = 0;
    for finding in &posture.findings {
        match (finding.is_warning(), finding.severity) {
            (true, Severity::High) => note(format!("WARNING: {}: {}", finding.field, finding.what)),
            (true, _) => note(format!("warning: {}: {}", finding.field, finding.what)),
            (false, _) => advice += 1,
        }
    }
    if advice > 0 {
        note(format!("{advice} more to make it safer: `taskiq-flow security check` lists all"));
    }
}

pub(crate) fn paths(given: Vec<PathBuf>) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given;
    }
    let default = Path::new(DEFAULT_PIPELINES);
    if default.is_dir() { vec![default.to_owned()] } else { Vec::new() }
}
