//! `check`: configuration and pipeline files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use taskiq_flow::LoadError;
use taskiq_flow::config::Sources;
use taskiq_flow::core::definition::Pipeline;
use taskiq_flow::core::diagnostic::nearest;
use taskiq_flow::core::document::{Document, Format, NodeValue};

use crate::args::CheckArgs;
use crate::output::{Failure, WRONG, colour, json as print_json, line, note};

/// What was found in one file.
struct Finding {
    path: PathBuf,
    /// What it holds, or what is wrong with it: for people, and for programs.
    result: Result<String, (String, Value)>,
}

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        files.extend(files_at(path)?);
    }
    let webhooks = webhooks(&files);
    let findings = files.into_iter().map(|path| Finding { result: check(&path, webhooks.as_deref()), path });
    let findings: Vec<_> = findings.collect();
    let bad = findings.iter().filter(|finding| finding.result.is_err()).count();
    if args.json {
        print_json(&findings.iter().map(to_json).collect());
    } else {
        for Finding { path, result } in &findings {
            match result {
                Ok(what) => line(format!("{}: {what}", path.display())),
                Err((text, _)) => note(text),
            }
        }
    }
    if bad == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    note(format!("{bad} of {} files cannot be used", findings.len()));
    Ok(ExitCode::from(WRONG))
}

/// The names of the webhooks, where a configuration is among the files.
fn webhooks(files: &[PathBuf]) -> Option<Vec<String>> {
    let configurations = files.iter().filter(|file| !is_pipeline(file));
    let loaded = configurations.filter_map(|file| Sources::default().file(file).load().ok());
    let names = |loaded: taskiq_flow::config::Loaded| {
        loaded.config.webhooks.iter().map(|webhook| webhook.name.clone()).collect::<Vec<_>>()
    };
    loaded.map(names).reduce(|one, other| [one, other].concat())
}

/// Whether what pipelines name in `on_event` is among the webhooks.
fn check_names(pipelines: &[Pipeline], webhooks: &[String]) -> Result<(), (String, Value)> {
    for pipeline in pipelines {
        if let Some(name) = pipeline.on_event.iter().find(|name| !webhooks.contains(name)) {
            let hint = match nearest(name, webhooks.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `webhooks` of the configuration".to_owned(),
            };
            let id = &pipeline.id;
            let message = format!("pipeline `{id}`: on_event names `{name}`, which is no webhook; {hint}");
            return Err((format!("error: {message}"), json!([{ "message": message }])));
        }
    }
    Ok(())
}

fn check(path: &Path, webhooks: Option<&[String]>) -> Result<String, (String, Value)> {
    if is_pipeline(path) {
        let pipelines = taskiq_flow::load_file(path).map_err(|error| describe(&error))?;
        webhooks.map_or(Ok(()), |webhooks| check_names(&pipelines, webhooks))?;
        let all = pipelines.iter().map(|pipeline| {
            let tasks = pipeline.tasks.len();
            format!("pipeline `{}`, {tasks} task{}", pipeline.id, if tasks == 1 { "" } else { "s" })
        });
        return Ok(format!("ok: {}", all.collect::<Vec<_>>().join("; ")));
    }
    match Sources::default().file(path).load() {
        Ok(_) => Ok("ok: configuration".to_owned()),
        Err(error) => Err((error.render(colour()), json!([error.diagnostic()]))),
    }
}

/// A file called taskiq-flow is a configuration, and so is one with a field like one of its fields. A file of
/// pipelines is a list, or has tasks or steps. One that cannot be read as a document is told as what its
/// name says, pipelines, whose loader says where it breaks off.
fn is_pipeline(path: &Path) -> bool {
    let Some(format) = Format::of_path(path) else { return true };
    let Ok(text) = std::fs::read_to_string(path) else { return true };
    let Ok(document) = Document::parse_confidential(&path.display().to_string(), &text, format) else {
        return true;
    };
    let known = taskiq_flow::config::fields();
    if path.file_stem().is_some_and(|stem| stem == "taskiq-flow") {
        return false;
    }
    match &document.root().value {
        NodeValue::Mapping(entries) => {
            let has = |names: &[&str]| entries.iter().any(|(key, _)| names.contains(&key.text.as_str()));
            let near = |key: &str| nearest(key, known.iter().map(|field| field.name)).is_some();
            has(&["tasks", "steps", "id"]) || !entries.iter().any(|(key, _)| near(&key.text))
        }
        _ => true,
    }
}

fn describe(error: &LoadError) -> (String, Value) {
    match error {
        LoadError::Definition(diagnostics) => (diagnostics.render(colour()), json!(diagnostics)),
        other => (format!("error: {other}"), json!([{ "message": other.to_string() }])),
    }
}

fn to_json(finding: &Finding) -> Value {
    match &finding.result {
        Ok(what) => json!({ "file": finding.path, "ok": true, "what": what }),
        Err((_, errors)) => json!({ "file": finding.path, "ok": false, "errors": errors }),
    }
}

fn files_at(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| file.is_file() && Format::of_path(file).is_some()).collect();
    files.sort();
    Ok(files)
}
