//! `selftest`: whether a server keeps what it promises.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Identity;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;
use taskiq_flow::security::jwt::{MintClaims, mint};
use taskiq_flow_selftest::client::Client;
use taskiq_flow_selftest::plan::Scope;
use taskiq_flow_selftest::report::{Finding, Report};
use taskiq_flow_selftest::run::{Options, Progress, run as run_matrix};
use taskiq_flow_selftest::setup::{Mint, Prepared, Traces, prepare};
use taskiq_flow_selftest::world::Credential;

use crate::args::{SelftestAuthzArgs, SelftestCommand};
use crate::commands;
use crate::output::{FAILED, Failure, json as print_json, note, text};
use crate::remote::{KEY_VARIABLE, Way};

/// How long tokens of the test are good for.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How often lines say how far the test is, where there is no terminal.
const LINE_EVERY: usize = 200;

pub(crate) fn run(command: SelftestCommand) -> Result<ExitCode, Failure> {
    match command {
        SelftestCommand::Authz(args) => commands::runtime()?.block_on(authz(args)),
    }
}

async fn authz(args: SelftestAuthzArgs) -> Result<ExitCode, Failure> {
    let way = Way::to(&args.remote)?;
    let client = client(&args, &way)?;
    let admin = admin()?;
    way.leads_nobody_in(&client).await?;
    let secret = secret(&args)?;
    let minting = secret.as_ref().map(|(secret, claims)| {
        move |subject: &str, roles: &[&str]| {
            let claims = MintClaims { subject: subject.to_owned(), roles: owned(roles), ..claims.clone() };
            mint(secret, &claims).map_err(|error| error.to_string())
        }
    });
    let minting: Option<&Mint<'_>> = minting.as_ref().map(|mint| mint as &Mint<'_>);
    let mut traces = Traces::default();
    let report = tokio::select! {
        report = test(&args, &client, &admin, minting, &mut traces) => report,
        () = taskiq_flow::stop_signal() => Err(Failure::failed("interrupted")),
    };
    if !traces.is_empty() {
        note("taking away what the test made");
        for left in traces.remove(&client, &admin).await {
            note(format!("left behind: {left}"));
        }
    }
    let report = report?;
    match args.json {
        true => print_json(&report.to_json()),
        false => text(&report.render()),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn test(
    args: &SelftestAuthzArgs,
    client: &Client,
    admin: &Credential,
    minting: Option<&Mint<'_>>,
    traces: &mut Traces,
) -> Result<Report, Failure> {
    note(format!(
        "preparing {}: pipelines and keys named selftest-…, which are taken away again",
        args.remote.url
    ));
    let Prepared { world, differences, knows_certificates, bad_credentials_per_minute } =
        prepare(client, admin, minting, &names(args), traces).await.map_err(Failure::wrong)?;
    let options = Options {
        at_once: if args.full { 8 } else { 2 },
        scope: if args.full { Scope::Full } else { Scope::Sampled },
        bad_credentials_per_minute,
        deadline: Duration::from_secs(args.minutes.saturating_mul(60)),
    };
    let mut shown = Shown::new();
    let report = run_matrix(client, &world, &options, None, |progress| shown.tell(progress)).await;
    shown.end();
    let mut report = report.map_err(Failure::failed)?;
    let finding =
        |fault: String| Finding { what: "routes".to_owned(), caller: "everybody".to_owned(), fault };
    report.findings.extend(differences.into_iter().map(finding));
    if knows_certificates && args.certificates.is_empty() {
        report.skipped.push("client certificates: none were named (--certificate)".to_owned());
    }
    if minting.is_none() {
        report.skipped.push("tokens: no jwt_secret is configured here (--config)".to_owned());
    }
    Ok(report)
}

/// How far the test is: a bar on a terminal, a line now and then elsewhere.
enum Shown {
    Bar(ProgressBar),
    Lines(usize),
}

impl Shown {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(0);
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    fn tell(&mut self, progress: Progress) {
        let waiting =
            progress.waiting.map(|wait| format!("the limits let go on in {} s", wait.as_secs() + 1));
        match self {
            Self::Bar(bar) => {
                bar.set_length(progress.all as u64);
                bar.set_position(progress.done as u64);
                bar.set_message(waiting.unwrap_or_default());
            }
            Self::Lines(said) => {
                if progress.done >= *said {
                    note(format!("{} of {}", progress.done, progress.all));
                    *said = progress.done + LINE_EVERY;
                }
            }
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn client(args: &SelftestAuthzArgs, way: &Way) -> Result<Client, Failure> {
    let mut headers = way.headers.clone();
    for header in &args.headers {
        let wrong = || Failure::wrong(format!("--header: write it as NAME:VALUE, not `{header}`"));
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?);
    }
    let mut client = Client::new(way.base.as_str(), headers, || way.builder()).map_err(Failure::wrong)?;
    for (file, name) in args.certificates.iter().zip(names(args)) {
        let wrong = |what: String| Failure::wrong(format!("--certificate {name}: {what}"));
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let identity = Identity::from_pem(&pem).map_err(|_| {
            wrong("no certificate with its private key in PEM; put both into the file".to_owned())
        })?;
        let shows = || way.builder().identity(identity.clone());
        client = client.with_certificate(&name, shows).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(client)
}

/// What the report calls the certificates.
fn names(args: &SelftestAuthzArgs) -> Vec<String> {
    args.certificates.iter().map(|file| file.display().to_string()).collect()
}

/// From the environment: an argument would stand in the list of processes and in the shell's history.
fn admin() -> Result<Credential, Failure> {
    match std::env::var(KEY_VARIABLE) {
        Ok(key) if !key.is_empty() => Ok(Credential::Key(key)),
        _ => Err(Failure::wrong(format!("set {KEY_VARIABLE} to the key of an unrestricted admin"))),
    }
}

/// What tokens are made with, when the configuration is here.
fn secret(args: &SelftestAuthzArgs) -> Result<Option<(SecretString, MintClaims)>, Failure> {
    let Some(file) = args.config.as_deref() else { return Ok(None) };
    let config = commands::configuration(&commands::sources(Some(file)))?.config;
    let mut claims = MintClaims::new("", Vec::<String>::new(), TOKEN_LIFE);
    claims.issuer = config.jwt_issuer.as_slice().first().cloned();
    claims.audience = config.jwt_audience.as_slice().first().cloned();
    Ok(config.jwt_secret.map(|secret| (secret, claims)))
}

fn owned(roles: &[&str]) -> Vec<String> {
    roles.iter().map(|role| (*role).to_owned()).collect()
}
