//! Pipelines from files and folders.

use std::path::{Path, PathBuf};

use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_core::diagnostic::Diagnostics;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;

/// Why pipelines could not be loaded. The message names file, line and fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What stands against it.
        source: std::io::Error,
    },
    /// The name of a file does not say what it holds.
    #[error("{path}: pipeline files end in .yaml, .yml, .toml or .json", path = .0.display())]
    Format(PathBuf),
    /// A definition is wrong.
    #[error("{0}")]
    Definition(Diagnostics),
    /// Two files define the same pipeline.
    #[error("pipeline `{id}` is defined twice: in {first} and in {second}; rename or remove one",
        first = first.display(), second = second.display())]
    Twice {
        /// The pipeline.
        id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// Loads pipelines from files, and from all pipeline files directly inside folders, by name.
///
/// # Errors
/// [`LoadError`] of the first path that has one.
pub fn load_files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Vec<Pipeline>, LoadError> {
    let mut found: Vec<(PathBuf, Pipeline)> = Vec::new();
    for path in paths {
        for file in files_at(path.as_ref())? {
            for pipeline in load_file(&file)? {
                if let Some((first, _)) = found.iter().find(|(_, known)| known.id == pipeline.id) {
                    let (id, first) = (pipeline.id.to_string(), first.clone());
                    return Err(LoadError::Twice { id, first, second: file });
                }
                found.push((file.clone(), pipeline));
            }
        }
    }
    Ok(found.into_iter().map(|(_, pipeline)| pipeline).collect())
}

/// Loads the pipelines of one file.
///
/// # Errors
/// [`LoadError`].
pub fn load_file(path: &Path) -> Result<Vec<Pipeline>, LoadError> {
    let format = Format::of_path(path).ok_or_else(|| LoadError::Format(path.to_owned()))?;
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(read)?;
    load_text(&path.display().to_string(), &text, format).map_err(LoadError::Definition)
}

fn files_at(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.is_file() && Format::of_path(&file).is_some() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "id: one\ntasks: [{name: a, expression: '1'}]\n";

    #[test]
    fn a_folder_gives_its_pipeline_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one.yaml"), ONE).unwrap();
        std::fs::write(
            dir.path().join("two.json"),
            r#"{"id": "two", "tasks": [{"name": "a", "expression": "1"}]}"#,
        )
        .unwrap();
        std::fs::write(dir.path().join("notes.txt"), "nothing").unwrap();
        let ids: Vec<_> = load_files([dir.path()]).unwrap().iter().map(|p| p.id.to_string()).collect();
        assert_eq!(ids, ["one", "two"]);
    }

    #[test]
    fn mistakes_name_the_file_and_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (a, b) = (file("a.yaml", ONE), file("b.yaml", ONE));
        let twice = load_files([&a, &b]).unwrap_err().to_string();
        assert!(twice.contains("`one` is defined twice") && twice.contains("b.yaml"), "{twice}");
        let text = load_files([file("c.txt", ONE)]).unwrap_err().to_string();
        assert!(text.contains("c.txt") && text.contains(".yaml"), "{text}");
        let missing = load_files([dir.path().join("d.yaml")]).unwrap_err().to_string();
        assert!(missing.contains("d.yaml: No such file"), "{missing}");
        let bad = load_files([file("e.yaml", "id: e\ntasks: []\n")]).unwrap_err().to_string();
        assert!(bad.contains("e.yaml:"), "{bad}");
    }
}
