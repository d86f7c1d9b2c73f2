//! `docs/guide/configuration.md` is what the fields say. `UPDATE_DOCS=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use taskiq_flow::config::{FieldInfo, fields};
use taskiq_flow::security::guard::endpoint;
use taskiq_flow::security::rate_limit::guide_limits;

const HEAD: &str = r#"<!-- Written by `UPDATE_DOCS=1 cargo test -p taskiq-flow --test configuration_reference`. Change the fields' own
     documentation in crates/taskiq-flow/src/config/fields.rs, or the texts in that test. -->

# Configuration

Everything is one flat list of fields. A field may stand in several places; the later one of these wins:

1. its default,
2. a file: the one `--config` names, else `taskiq-flow.toml` in the working directory if it is there,
3. its environment variable: `TASKIQ_FLOW_` and its name in capitals,
4. a flag of the command line.

Files are TOML, YAML or JSON, by their extension, with the same fields in each:

```toml
require_https = true
jwt_secret = "file:/run/secrets/jwt"
rate_limit_default = "100/minute"

[api_keys.admin-key]
role = "admin"
pipelines = ["*"]
permissions = ["read", "execute", "admin"]

[pipeline_acls.pipeline1]
read = ["admin", "viewer"]
execute = ["admin"]
```

In a variable, maps and lists are written as JSON, truth values as `true` or `false` (or `1` and `0`), everything else as
it is:

```sh
TASKIQ_FLOW_REQUIRE_HTTPS=true
TASKIQ_FLOW_API_KEYS='{"admin-key":{"role":"admin","pipelines":["*"],"permissions":["read","execute","admin"]}}'
```

**Secrets in files of their own.** Any text may be `file:` and a path: the value is then what that file holds, without the
line break at its end. That is also so inside maps and lists, and for a whole variable, which is then read from the file
as it would be from the variable.

**`REDIS_URL`**, where it is set, is the default of `rate_limit_storage`, and what `redis` alone means there and in
`broker_url`.

**Mistakes** end the program with code 2 and one message that names source, line, field, what was expected and the nearest
known name. That goes for a field that is not known, a value of the wrong kind or one that is not possible, and for what
this version cannot do yet: a setting without effect would be worse. A variable that begins with `TASKIQ_FLOW_` and is no
field is only warned of. No message, log line or answer ever holds a secret.

`taskiq-flow check FILE` reads a file without starting anything.
"#;

const TAIL: &str = r#"
## Entries of `api_keys`

The name of an entry is the key itself, or `sha256:` and the hex digest of it, which `taskiq-flow key hash` prints.

| name | meaning |
|---|---|
| `role` | what ACLs call it; `roles` for several |
| `pipelines` | the pipelines it may touch; `*` stands for any text; absent, empty or with `"*"`: all |
| `permissions` | out of `read`, `execute`, `admin`; absent: none |
| `expires_at` | from when on it is refused, an RFC 3339 time |
| `allowed_ips` | networks and addresses it may be used from; absent: anywhere |
| `id` | what logs and audit records call it; else `key-` and the start of its digest |

## Entries of `jwt_public_keys`

| name | meaning |
|---|---|
| `algorithm` | `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` or `EdDSA` (also called `Ed25519`) |
| `pem` | the public key; `file:/path` as ever |
| `kid` | the `kid` of the tokens it checks |

## Entries of `jwt_issuers`

How they are used: [Tokens](tokens.md).

| name | meaning |
|---|---|
| `issuer` | what its tokens have in `iss`, exactly |
| `audiences` | the audiences of which its tokens must name one; absent: only tokens without audience |
| `algorithms` | the accepted algorithms; absent: every one with a public key |
| `public_keys` | its public keys, as in `jwt_public_keys` |
| `jwks_url` | where it publishes its keys |
| `required_type` | the `typ` its tokens must have; absent: that of `jwt_required_type` |

## Entries of `webhooks`

How they are used: [webhooks](webhooks.md).

| name | meaning |
|---|---|
| `name` | what pipelines and people call it |
| `url` | where it is: `https://`, with `allow_internal` also `http://` |
| `secret` | what signs it: at least 16 bytes |
| `events` | the types of events it is told of; `*` stands for any text |
| `pipelines` | the pipelines whose events it is told of; `*` stands for any text; `[]`: those that name it in `on_event` |
| `headers` | headers that are sent along |
| `allow_internal` | whether it may be on a private network or on this machine; absent: `false` |
| `timeout` | how long a delivery may take, from `1s` to `60s`; absent: `10s` |

## Entries of `pipeline_quotas`

| name | meaning |
|---|---|
| `executions` | how often the pipeline may be executed, by whoever: a limit such as `100/hour` |
| `per_principal` | how often one principal may execute it |
| `concurrent_runs` | how many of its runs may be unfinished at once, in this process |

The entry that names the pipeline holds, else the longest pattern that it matches; each pipeline has buckets of its own. An
execution is counted whatever asks for it: a request, the trigger of a schedule, a retry, and a schedule by itself (not by
`per_principal`: it has none). What is refused for another reason, and a repeated `Idempotency-Key`, cost nothing. A request
over a quota is answered 429 `quota-exceeded`, with `Retry-After`, the policy in `RateLimit-Policy` and its name in
`violated-policies`; a schedule over a quota skips its firing, which its watchers are told (`PipelineSkipEvent`) and the audit
log (`rate_limit.exceeded`). Runs that steps of other runs ask for are part of those runs and are never refused for a quota:
bound the outer pipeline, too. Buckets are kept in `rate_limit_storage`, so that replicas share them.

```toml
[pipeline_quotas.billing]
executions = "100/hour"
per_principal = "10/minute"

[pipeline_quotas."report_*"]
concurrent_runs = 2
```

"#;

#[test]
fn the_reference_is_what_the_fields_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/configuration.md");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/guide/configuration.md is out of date from line {}: run this test with UPDATE_DOCS=1",
        line.map_or_else(|| found.lines().count().min(expected.lines().count()) + 1, |line| line + 1)
    );
}

/// The reference is written by hand where the fields do not tell: what it says there must hold.
#[test]
fn the_examples_of_the_reference_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt");
    std::fs::write(&secret, "a secret of at least thirty-two bytes\n").unwrap();
    let toml = HEAD.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = folder.path().join("taskiq-flow.toml");
    std::fs::write(&file, toml.replace("/run/secrets/jwt", &secret.display().to_string())).unwrap();
    let config = taskiq_flow::TaskiqFlowConfig::from_file(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.api_keys.len(), config.pipeline_acls.len()), (1, 1));
    let lines = HEAD.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let env = lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, value.trim_matches('\'')));
    let loaded =
        taskiq_flow::config::Sources::default().env(env).load().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.api_keys.len(), 1);
    assert!(loaded.warnings.is_empty());
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for field in fields() {
        if field.section != section {
            section = field.section;
            let _ =
                write!(text, "\n## {section}\n\n| field | value | default | meaning |\n|---|---|---|---|\n");
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            name(field),
            cell(&field.kind),
            default(field),
            cell(&meaning(field))
        );
    }
    text.push_str(TAIL);
    text.push_str("## Endpoints and their limits\n\n`rate_limits` may name these; those without a limit here have `rate_limit_default`.\n\n");
    text.push_str("| endpoint | limit |\n|---|---|\n");
    let limits = guide_limits();
    for endpoint in endpoint::ALL {
        let limit = limits.get(endpoint).map(|limit| format!("`{limit}`")).unwrap_or_default();
        let _ = writeln!(text, "| `{endpoint}` | {limit} |");
    }
    text
}

fn name(field: &FieldInfo) -> String {
    match field.alias {
        Some(alias) => format!("`{}`, also `{alias}`", field.name),
        None => format!("`{}`", field.name),
    }
}

fn default(field: &FieldInfo) -> String {
    match &field.default {
        Value::Null => "none".to_owned(),
        // Addresses are secrets because they may hold passwords; the defaults hold none.
        value => format!("`{}`", cell(&value.to_string())),
    }
}

fn meaning(field: &FieldInfo) -> String {
    let words: Vec<_> = field.doc.split_whitespace().collect();
    words.join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
