//! The built server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::Reply;
use crate::client::Client;
use crate::command::{clean, directory, write};
use crate::port::free_port;
use crate::process::{Exit, Process};
use crate::tls::Pair;
use crate::wait::until;
use crate::websocket::Socket;

/// How long a start may take; debug builds on a busy machine are slow.
const START: Duration = Duration::from_secs(20);
/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(5);
/// How often another port is tried.
const PORTS: usize = 5;

/// What a server is started with.
#[derive(Debug)]
pub struct ServerBuilder {
    program: PathBuf,
    directory: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    pipelines: Vec<PathBuf>,
    config: Option<PathBuf>,
    tls: Option<Tls>,
}

/// What clients of a server that speaks TLS need.
#[derive(Debug, Clone)]
struct Tls {
    /// The certificate they trust, as PEM.
    trusted: String,
    /// What they show to one that asks.
    identity: Option<Pair>,
}

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    // Dropped first: the directory goes when nobody writes there any more.
    process: Process,
    spec: ServerBuilder,
    port: u16,
}

impl Server {
    /// A server of `program`, which is `env!("CARGO_BIN_EXE_taskiq-flow")` to a test of its package.
    ///
    /// It keeps its state and its audit records (`audit.jsonl`, there alone) in a directory of its own, and sees no
    /// environment variable but those the builder is given.
    pub fn builder(program: impl Into<PathBuf>) -> ServerBuilder {
        ServerBuilder {
            program: program.into(),
            directory: directory(),
            environment: Vec::new(),
            arguments: Vec::new(),
            pipelines: Vec::new(),
            config: None,
            tls: None,
        }
        .env("TASKIQ_FLOW_STORE_URL", "sqlite:state.db")
        .env("TASKIQ_FLOW_AUDIT_LOG", "audit.jsonl")
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its address for HTTP clients, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its working directory.
    pub fn dir(&self) -> &Path {
        self.spec.directory.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A client that a proxy on this machine seems to have passed on, having been asked over HTTPS.
    pub fn client(&self) -> Client {
        self.plain_client().header("X-Forwarded-Proto", "https")
    }

    /// A client that speaks plain HTTP to the server itself.
    pub fn plain_client(&self) -> Client {
        Client::new(self.url())
    }

    /// Opens a WebSocket with these headers and `X-Forwarded-Proto: https`.
    ///
    /// # Errors
    /// The answer, when it is no upgrade.
    pub async fn socket(&self, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Box<Reply>> {
        let headers = [&[("X-Forwarded-Proto", "https")], headers].concat();
        Socket::connect(&format!("ws://127.0.0.1:{}{path}", self.port), &headers).await
    }

    /// A client that speaks TLS to the server itself.
    ///
    /// # Panics
    /// When the builder was given no certificate.
    pub fn tls_client(&self) -> Client {
        match &self.spec.tls {
            Some(tls) => tls.client(self.port),
            None => panic!("the server was started without TLS"),
        }
    }

    /// A client that trusts this certificate (PEM) alone, and speaks TLS to the server itself.
    pub fn tls_client_trusting(&self, certificate: &str) -> Client {
        Tls { trusted: certificate.to_owned(), identity: None }.client(self.port)
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The text of its audit file.
    pub fn audit(&self) -> String {
        std::fs::read_to_string(self.audit_path()).unwrap_or_default()
    }

    /// Where its audit file is, unless the builder was told otherwise.
    pub fn audit_path(&self) -> PathBuf {
        self.dir().join("audit.jsonl")
    }

    /// Sends SIGHUP.
    pub fn hangup(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it has not ended after 5 seconds.
    pub async fn stop(mut self) -> Exit {
        self.process.stop(Signal::TERM, STOP).await
    }

    /// [`Server::stop`], and what is left in its directory may still be read.
    pub async fn stop_and_keep(mut self) -> (Exit, TempDir) {
        let exit = self.process.stop(Signal::TERM, STOP).await;
        (exit, self.spec.directory)
    }

    /// Kills it, as a power failure would.
    pub async fn kill9(&mut self) {
        self.process.stop(Signal::KILL, STOP).await;
    }

    /// Starts it anew after [`Server::kill9`], in the same directory on the same port.
    pub async fn restart(&mut self) {
        let process = self.spec.spawn(self.port);
        self.process = process;
        if let Err(exit) = ready(&mut self.process, self.spec.probe(self.port)).await {
            panic!("the server did not start again: {exit:?}");
        }
    }

    /// As [`Server::restart`], where it may end before it answers.
    ///
    /// # Errors
    /// How it ended.
    pub async fn try_restart(&mut self) -> Result<(), Exit> {
        self.process = self.spec.spawn(self.port);
        ready(&mut self.process, self.spec.probe(self.port)).await
    }

    /// Its end, when it comes by itself within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Option<Exit> {
        self.process.wait(limit).await
    }

    /// Sets an environment variable for the next start, or takes it back.
    pub fn set_env(&mut self, name: &str, value: Option<String>) {
        self.spec.environment.retain(|(known, _)| known != name);
        self.spec.environment.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// Stops it in order and starts it anew.
    pub async fn stop_and_restart(&mut self) -> Exit {
        let exit = self.process.stop(Signal::TERM, STOP).await;
        self.restart().await;
        exit
    }
}

impl ServerBuilder {
    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self = self.without_env(name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Takes an environment variable back, one that every test server has for example.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Gives it one API key, which may do everything.
    #[must_use]
    pub fn admin_key(self, key: &str) -> Self {
        let entry =
            json!({ "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"] });
        self.env("TASKIQ_FLOW_API_KEYS", json!({ key: entry }).to_string())
    }

    /// Has it limit neither requests nor guesses.
    #[must_use]
    pub fn without_limits(self) -> Self {
        self.env("TASKIQ_FLOW_RATE_LIMIT_ENABLED", "false").env("TASKIQ_FLOW_AUTH_FAILURE_LIMIT", "")
    }

    /// Gives it a TOML configuration file.
    #[must_use]
    pub fn config_toml(self, text: &str) -> Self {
        self.config_file("taskiq-flow.test.toml", text)
    }

    /// Gives it a configuration file of any format.
    #[must_use]
    pub fn config_file(mut self, name: &str, text: &str) -> Self {
        self.config = Some(write(self.directory.path(), name, text));
        self
    }

    /// Gives it a pipeline, as YAML.
    #[must_use]
    pub fn pipeline(mut self, yaml: &str) -> Self {
        let name = format!("pipelines/{:02}.yaml", self.pipelines.len());
        self.pipelines.push(write(self.directory.path(), &name, yaml));
        self
    }

    /// Has it speak TLS with this certificate, which clients then trust.
    #[must_use]
    pub fn tls(mut self, pair: &Pair) -> Self {
        self.tls = Some(Tls { trusted: pair.pem(), identity: None });
        self.env("TASKIQ_FLOW_TLS_CERT", pair.certificate.display().to_string())
            .env("TASKIQ_FLOW_TLS_KEY", pair.key.display().to_string())
    }

    /// Has it ask clients for certificates of this authority; [`Server::tls_client`] has `identity` to show.
    ///
    /// # Panics
    /// Without [`ServerBuilder::tls`] before.
    #[must_use]
    pub fn client_ca(mut self, authority: &Path, identity: Option<&Pair>) -> Self {
        let tls = self.tls.as_mut().unwrap_or_else(|| panic!("give the server its own certificate first"));
        tls.identity = identity.cloned();
        self.env("TASKIQ_FLOW_TLS_CLIENT_CA", authority.display().to_string())
    }

    /// Gives it the pipelines of a file or directory.
    #[must_use]
    pub fn pipelines(mut self, path: impl Into<PathBuf>) -> Self {
        self.pipelines.push(path.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Its working directory, where files that it is to find can be written before the start.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it, and waits until `/health` answers.
    ///
    /// # Panics
    /// When it ends or says nothing.
    pub async fn start(self) -> Server {
        match self.try_start().await {
            Ok(server) => server,
            Err(exit) => panic!("the server ended with {:?}\n{}{}", exit.code, exit.stdout, exit.stderr),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// How it ended, when it would not start.
    pub async fn try_start(self) -> Result<Server, Exit> {
        let mut tries = 0;
        loop {
            let port = free_port();
            let mut process = self.spawn(port);
            tries += 1;
            match ready(&mut process, self.probe(port)).await {
                Ok(()) => return Ok(Server { spec: self, process, port }),
                Err(exit)
                    if tries < PORTS && exit.stderr.to_lowercase().contains("address already in use") => {}
                Err(exit) => return Err(exit),
            }
        }
    }

    /// A client that can ask whether it is up.
    fn probe(&self, port: u16) -> Client {
        match &self.tls {
            Some(tls) => tls.client(port),
            None => Client::new(format!("http://127.0.0.1:{port}")),
        }
    }

    fn spawn(&self, port: u16) -> Process {
        let mut command = Command::new(&self.program);
        clean(&mut command, self.directory.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.directory.path()).arg("serve").args(["--port", &port.to_string()]);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if !self.pipelines.is_empty() {
            command.arg("--pipelines").args(&self.pipelines);
        }
        command.args(&self.arguments);
        Process::spawn(command, "server", self.directory.path())
    }
}

impl Tls {
    fn client(&self, port: u16) -> Client {
        let (base, address) = (format!("https://localhost:{port}"), (Ipv4Addr::LOCALHOST, port).into());
        match &self.identity {
            Some(identity) => Client::mutual_tls(base, address, &self.trusted, identity),
            None => Client::tls(base, "localhost", address, &self.trusted),
        }
    }
}

/// Waits until the server answers.
async fn ready(process: &mut Process, health: Client) -> Result<(), Exit> {
    let mut end = None;
    let up = until(START, async || {
        // Looked at before and after the answer: another process may have been given the same port.
        end = process.ended();
        if end.is_some() {
            return Some(());
        }
        let answered = health.try_get("/health").await.is_some_and(|reply| reply.status == 200);
        end = process.ended();
        (answered || end.is_some()).then_some(())
    })
    .await;
    match (end, up) {
        (Some(exit), _) => Err(exit),
        (None, Some(())) => Ok(()),
        (None, None) => panic!("no /health after {START:?}\n{}{}", process.stdout(), process.stderr()),
    }
}
