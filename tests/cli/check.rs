//! `check`: every kind of definition error says where it is, what it is about, and what to do.

use taskiq_flow_testkit::Cli;

use crate::PROGRAM;

/// A mistake: the file, the line it is in, words that the message must have, and words of the fix.
struct Mistake {
    file: &'static str,
    text: &'static str,
    line: usize,
    words: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        file: "cycle.yaml",
        text: "id: round\ntasks:\n  - { name: hen, expression: egg, inputs: [egg], output: chick }\n  - { name: bird, \
               expression: chick, inputs: [chick], output: egg }\n",
        line: 3,
        words: &["cycle", "hen", "bird", "egg", "chick"],
    },
    Mistake {
        file: "twice.yaml",
        text: "id: twice\ntasks:\n  - { name: one, expression: \"1\", output: size }\n  - { name: two, expression: \"2\", \
               output: size }\n",
        line: 4,
        words: &["size", "one", "two"],
    },
    Mistake {
        file: "kind.yaml",
        text: "id: kind\ntasks:\n  - name: first\n    comand: [\"true\"]\n    output: x\n",
        line: 4,
        words: &["comand", "command"],
    },
    Mistake {
        file: "field.yaml",
        text: "id: field\ntasks:\n  - name: first\n    command: [\"true\"]\n    ouput: x\n",
        line: 5,
        words: &["ouput", "output"],
    },
    Mistake {
        file: "expression.yaml",
        text: "id: expression\ninputs:\n  a: { type: integer }\ntasks:\n  - name: first\n    expression: \"a +\"\n    \
               inputs: [a]\n    output: x\n",
        line: 6,
        words: &["expression"],
    },
    Mistake {
        file: "undeclared.yaml",
        text: "id: undeclared\ninputs:\n  amount: { type: integer }\ntasks:\n  - name: first\n    expression: amuont\n    \
               inputs: [amuont]\n    output: x\n",
        line: 7,
        words: &["amuont", "amount"],
    },
    Mistake {
        file: "yaml.yaml",
        text: "id: yaml\ntasks:\n  - name: first\n    command: [\"true\"\n    output: x\n",
        line: 5,
        words: &[],
    },
    Mistake {
        file: "toml.toml",
        text: "id = \"toml\"\n[[tasks]]\nname = \"first\"\nexpression = 1 +\n",
        line: 4,
        words: &[],
    },
    Mistake { file: "json.json", text: "{\n  \"id\": \"json\",\n  \"tasks\": [\n}\n", line: 4, words: &[] },
    Mistake {
        file: "config.toml",
        text: "require_https = true\n\nrate_limit_defualt = \"10/minute\"\n",
        line: 3,
        words: &["rate_limit_defualt", "rate_limit_default"],
    },
];

#[tokio::test]
async fn every_definition_error_exits_2_and_names_file_line_and_mend() {
    let cli = Cli::new(PROGRAM);
    for Mistake { file, text, line, words } in MISTAKES {
        cli.file(file, text);
        let exit = cli.run(["check", file]).await;
        assert_eq!(exit.code, Some(2), "{file}: {}", exit.output());
        assert_eq!(exit.stdout, "", "{file}: messages go to standard error");
        assert!(
            exit.stderr.contains(&format!("{file}:{line}")),
            "{file}: not at line {line}: {}",
            exit.stderr
        );
        for word in *words {
            assert!(exit.stderr.contains(word), "{file}: no `{word}`: {}", exit.stderr);
        }
        assert!(exit.stderr.contains('^'), "{file}: no caret: {}", exit.stderr);
        let fix = ["help", "did you mean"].iter().any(|word| exit.stderr.contains(word));
        assert!(fix, "{file}: no fix: {}", exit.stderr);
        assert!(!exit.stderr.contains('\u{1b}'), "{file}: colours, and no terminal");
        // The server and `run` refuse it alike.
        if !file.starts_with("config") {
            let exit = cli.run(["serve", "--port", "0", "--pipelines", file]).await;
            assert_eq!(exit.code, Some(2), "serve {file}: {}", exit.output());
            assert!(exit.stderr.contains(&format!("{file}:{line}")), "serve {file}: {}", exit.stderr);
            let exit = cli.run(["run", file]).await;
            assert_eq!(exit.code, Some(2), "run {file}: {}", exit.output());
        }
    }
}

#[tokio::test]
async fn one_bad_file_among_good_ones_is_found() {
    let cli = Cli::new(PROGRAM);
    cli.file("good/a.yaml", "id: a\ntasks:\n  - { name: t, expression: \"1\", output: x }\n");
    cli.file("good/b.toml", "id = \"b\"\n[[tasks]]\nname = \"t\"\nexpression = \"1\"\noutput = \"x\"\n");
    cli.file("good/c.json", r#"{"id": "c", "tasks": [{"name": "t", "expression": "1", "output": "x"}]}"#);
    cli.file("taskiq-flow.toml", "require_https = false\n");
    let exit = cli.run(["check", "good", "taskiq-flow.toml"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    assert_eq!(exit.stdout.lines().count(), 4, "{}", exit.stdout);
    cli.file("good/d.yaml", "id: d\ntasks: 7\n");
    let exit = cli.run(["check", "good", "taskiq-flow.toml"]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("d.yaml:2"), "{}", exit.stderr);
    assert_eq!(cli.run(["check", "missing.yaml"]).await.code, Some(2));
    let exit = cli.run(["check", "--json", "good/a.yaml", "good/d.yaml"]).await;
    let report: serde_json::Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(
        (exit.code, report[0]["ok"].as_bool(), report[1]["ok"].as_bool()),
        (Some(2), Some(true), Some(false))
    );
}

#[tokio::test]
async fn the_examples_pass() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines");
    let exit = Cli::new(PROGRAM).run(["check".as_ref(), examples.as_os_str()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    for id in ["word-stats", "squares", "triage", "chain", "python-etl"] {
        assert!(exit.stdout.contains(id), "{id}: {}", exit.stdout);
    }
}
