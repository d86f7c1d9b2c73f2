//! `demo`: a server on this machine with ready pipelines and a fresh admin key.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde_json::json;
use taskiq_flow::core::document::Format;
use taskiq_flow::core::load::load_text;
use taskiq_flow::security::api_key::{self, KeyDigest};

use crate::args::DemoArgs;
use crate::commands::serve::serve;
use crate::output::{Failure, line};
use crate::{commands, logging};

/// The pipelines that the demo brings.
const PIPELINES: [(&str, &str); 4] = [
    ("word-stats.yaml", include_str!("../../../../examples/pipelines/word-stats.yaml")),
    ("map-reduce.yaml", include_str!("../../../../examples/pipelines/map-reduce.yaml")),
    ("branching.yaml", include_str!("../../../../examples/pipelines/branching.yaml")),
    ("sequential.yaml", include_str!("../../../../examples/pipelines/sequential.yaml")),
];

/// The key of the guide's own curl lines. It may only read, and the demo listens on this machine alone.
const VIEWER_KEY: &str = "viewer-key";

/// What the words are counted of where there is no README.
const SAMPLE: &str = "Work that must not be lost is written down before it is done.\n";

pub(crate) fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let admin = api_key::generate("demo-admin").map_err(Failure::failed)?;
    let keys = json!({
        KeyDigest::of(admin.expose_secret()).to_config(): {
            "id": "demo-admin", "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"]
        },
        KeyDigest::of(VIEWER_KEY).to_config(): {
            "id": "demo-viewer", "role": "viewer", "pipelines": ["*"], "permissions": ["read"]
        },
    });
    let mut sources =
        commands::sources(None).set("host", "127.0.0.1", "demo").set("api_keys", keys.to_string(), "demo");
    // What the environment says wins: these are only what a demo wants when nobody said anything.
    let audit = std::env::temp_dir().join(format!("taskiq-flow-demo-audit-{}.jsonl", std::process::id()));
    let defaults = [
        ("store_url", "memory:".to_owned()),
        ("audit_log", audit.display().to_string()),
        ("require_https", "false".to_owned()),
    ];
    for (field, value) in defaults {
        if std::env::var_os(format!("TASKIQ_FLOW_{}", field.to_uppercase())).is_none() {
            sources = sources.set(field, value, "demo");
        }
    }
    if let Some(port) = args.port {
        sources = sources.set("port", port, "--port");
    }
    let loaded = commands::configuration(&sources)?;
    let mut pipelines = Vec::new();
    for (name, text) in PIPELINES {
        pipelines.extend(load_text(name, text, Format::Yaml).map_err(Failure::wrong)?);
    }
    logging::start(&loaded.config)?;
    let asked = json!({ "parameters": { "path": sample().display().to_string() }, "wait": true })
        .to_string()
        .replace('\'', "'\\''");
    let https = loaded.config.require_https;
    let audit = loaded.config.audit_options().map_err(|error| commands::config_failure(&error))?;
    commands::runtime()?.block_on(serve(&sources, loaded, pipelines, |_, address| {
        let base = format!("http://{address}");
        let header = if https { " -H 'X-Forwarded-Proto: https'" } else { "" };
        let admin = admin.expose_secret();
        line("TaskIQ-Flow demo, on this machine only; runs are kept in memory");
        line(format!("  dashboard   {base}/ui/"));
        line(format!("  admin key   {admin}   (made for this start, shown once)"));
        line(format!("  viewer key  {VIEWER_KEY}   (the guide's example: may only read)"));
        if let Some(taskiq_flow::security::audit::AuditSink::File(path)) = audit.sinks.first() {
            line(format!("  audit log   {}", path.display()));
        }
        line("");
        line("Try, in another terminal:");
        line(format!("  curl -i{header} -H 'X-API-Key: {VIEWER_KEY}' {base}/pipelines"));
        line(format!(
            "  curl -s{header} -H 'X-API-Key: {admin}' -H 'Content-Type: application/json' \\\n       -d \
             '{asked}' {base}/pipelines/word-stats/execute"
        ));
        line("Stop with Ctrl-C.");
    }))
}

/// The file of the request that is shown: the README of the folder where the demo is started, or one of its own.
fn sample() -> PathBuf {
    let readme = PathBuf::from("README.md");
    if readme.is_file() {
        return readme;
    }
    let own = std::env::temp_dir().join(format!("taskiq-flow-demo-{}.txt", std::process::id()));
    // A new file: whatever stands there, such as a link to something else, is another's.
    let file = File::options().write(true).create_new(true).open(&own);
    match file.and_then(|mut file| file.write_all(SAMPLE.as_bytes())) {
        Ok(()) => own,
        Err(_) => readme,
    }
}
