//! `security`: how safe a configuration or a running server is, and what it decides.

mod outside;

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value, json};
use taskiq_flow::posture::{self, Facts, Posture, Severity};
use taskiq_flow::security::audit::escape_controls;

use crate::args::{
    PermissionArg, RemoteArgs, SecurityCheckArgs, SecurityCommand, SecurityExplainArgs, TlsArgs,
};
use crate::commands;
use crate::commands::serve;
use crate::output::{FAILED, Failure, json as print_json, line};
use crate::remote::Remote;

pub(crate) fn run(command: SecurityCommand) -> Result<ExitCode, Failure> {
    match command {
        SecurityCommand::Check(args) => check(&args),
        SecurityCommand::Explain(args) => explain(&args),
    }
}

fn check(args: &SecurityCheckArgs) -> Result<ExitCode, Failure> {
    let posture = match &args.url {
        Some(url) => {
            let remote = RemoteArgs { url: url.clone(), allow_plain_http: true, tls: args.tls.clone() };
            let seen = commands::runtime()?.block_on(outside::look(&remote, !args.no_guessing))?;
            posture::look_from_outside(&seen)
        }
        None => {
            args.tls.for_no_server()?;
            of_configuration(args)?
        }
    };
    match args.json {
        true => print_json(&posture.to_json()),
        false => tell(&posture),
    }
    let grave = posture.worst() == Some(Severity::High);
    Ok(if grave { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn of_configuration(args: &SecurityCheckArgs) -> Result<Posture, Failure> {
    let loaded = commands::configuration(&commands::sources(args.config.config.as_deref()))?;
    let settings = loaded.security_settings().map_err(|error| commands::config_failure(&error))?;
    let paths = serve::paths(args.pipelines.clone());
    let ids: Vec<String> =
        commands::pipelines(&paths)?.iter().map(|pipeline| pipeline.id.to_string()).collect();
    let mut facts = Facts::new(&loaded.config, &settings).file(loaded.file.as_deref());
    // Without files the pipelines come over the API, and only the server knows them.
    if !paths.is_empty() {
        facts = facts.pipelines(&ids);
    }
    Ok(posture::look(&facts))
}

fn tell(posture: &Posture) {
    for finding in &posture.findings {
        let check = finding.check;
        line(format!("{:6} {} ({})", name(finding.severity), finding.field, check.id));
        line(format!("       {}", escape_controls(&finding.what)));
        line(format!("       fix:  {}", check.fix));
        line(format!("       ASVS {}; {}", check.asvs.join(", "), check.api_top10.join(", ")));
    }
    let count = |severity| posture.findings.iter().filter(|finding| finding.severity == severity).count();
    line(format!(
        "score {} of 100: {} high, {} medium, {} low",
        posture.score(),
        count(Severity::High),
        count(Severity::Medium),
        count(Severity::Low)
    ));
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "HIGH",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}

fn explain(args: &SecurityExplainArgs) -> Result<ExitCode, Failure> {
    let question = question(args)?;
    let answer = match &args.url {
        Some(url) => ask(url, args.tls.clone(), &question)?,
        None => {
            args.tls.for_no_server()?;
            answer_here(args, question)?
        }
    };
    match args.json {
        true => print_json(&answer),
        false => tell_why(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(url: &str, tls: TlsArgs, question: &Value) -> Result<Value, Failure> {
    let remote = RemoteArgs { url: url.to_owned(), allow_plain_http: false, tls };
    let remote = Remote::new(&remote)?;
    commands::runtime()?.block_on(remote.call(Method::POST, &["security", "explain"], Some(question)))
}

fn answer_here(args: &SecurityExplainArgs, question: Value) -> Result<Value, Failure> {
    let loaded = commands::configuration(&commands::sources(args.config.config.as_deref()))?;
    let settings = loaded.security_settings().map_err(|error| commands::config_failure(&error))?;
    taskiq_flow::api::explain_by(&settings, question).map_err(|error| match args.key_id.is_some() {
        true => Failure::wrong(format!(
            "{error}; keys that were made over the API only the server knows: --url URL"
        )),
        false => Failure::wrong(error),
    })
}

/// The same body as `POST /security/explain` takes.
fn question(args: &SecurityExplainArgs) -> Result<Value, Failure> {
    let mut question = Map::new();
    let permission = match args.permission {
        PermissionArg::Read => "read",
        PermissionArg::Execute => "execute",
        PermissionArg::Admin => "admin",
    };
    question.insert("permission".to_owned(), json!(permission));
    // At most one of them is there.
    let who = [
        ("key_id", args.key_id.as_ref().map(|id| json!(id))),
        ("certificate", args.certificate.as_ref().map(|name| json!(name))),
        ("roles", args.roles.as_ref().map(|roles| json!(roles))),
        ("type", args.anonymous.then(|| json!("anonymous"))),
    ];
    let Some((field, value)) = who.into_iter().find_map(|(field, value)| Some((field, value?))) else {
        return Err(Failure::wrong("say who: --key-id ID, --certificate ID, --roles ROLE,… or --anonymous"));
    };
    question.insert(field.to_owned(), value);
    for (field, value) in [("pipeline_id", &args.pipeline), ("resource", &args.resource)] {
        if let Some(value) = value {
            question.insert(field.to_owned(), json!(value));
        }
    }
    Ok(Value::Object(question))
}

fn tell_why(answer: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let allowed = if answer["allowed"] == true { "allowed" } else { "denied" };
    line(format!("{allowed} by rule `{}`: {}", text(&answer["rule"]), text(&answer["reason"])));
    if answer["pipeline_exists"] == false {
        line(format!("  (there is no pipeline `{}` on this server now)", text(&answer["pipeline_id"])));
    }
    for look in answer["chain"].as_array().into_iter().flatten() {
        line(format!("  {:13} {:8} {}", text(&look["rule"]), text(&look["verdict"]), text(&look["why"])));
    }
    let changes = answer["changes"].as_array().map_or(&[][..], Vec::as_slice);
    if !changes.is_empty() {
        line("any one of these would turn it:");
    }
    for change in changes {
        line(format!("  - {}", text(&change["text"])));
    }
}
