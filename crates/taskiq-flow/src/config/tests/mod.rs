mod messages;
mod precedence;
mod secrets;
mod values;

use super::{ConfigError, Loaded, Sources};

/// Reads one file of this name and text, with this environment.
fn load(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    Sources::default().file(path).env(env.iter().copied()).load()
}

fn load_env(env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Sources::default().env(env.iter().copied()).load()
}

/// The message about a file, which is called by its name alone.
fn message(name: &str, text: &str) -> String {
    shown(name, load(name, text, &[]).unwrap_err())
}

fn shown(name: &str, error: ConfigError) -> String {
    let text = error.to_string();
    let Some(start) = text.find("--> ").map(|at| at + 4) else { return text };
    match text[start..].find(name) {
        Some(length) => format!("{}{}", &text[..start], &text[start + length..]),
        None => text,
    }
}
