//! What users read, letter by letter.

use super::super::Sources;
use super::{load_env, message};

fn env_message(name: &str, value: &str) -> String {
    load_env(&[(name, value)]).unwrap_err().to_string()
}

#[track_caller]
fn same(shown: String, expected: &[&str]) {
    let expected = expected.join("\n");
    assert_eq!(shown, expected, "\n--- shown\n{shown}\n--- expected\n{expected}");
}

#[test]
fn files() {
    same(
        message("c.toml", "host = '::'\nport = \"eighty\"\n"),
        &[
            "error: `port` must be a whole number from 0 to 65535, found text \"eighty\"",
            " --> c.toml:2:8",
            "  |",
            "2 | port = \"eighty\"",
            "  |        ^^^^^^^^",
        ],
    );
    same(
        message("c.yaml", "rate_limit_defualt: 5/minute\n"),
        &[
            "error: there is no field `rate_limit_defualt`",
            " --> c.yaml:1:1",
            "  |",
            "1 | rate_limit_defualt: 5/minute",
            "  | ^^^^^^^^^^^^^^^^^^",
            "  |",
            "  = help: did you mean `rate_limit_default`?",
        ],
    );
    same(
        message("c.toml", "rate_limit_default = '5/fortnight'"),
        &[
            "error: `rate_limit_default`: \"fortnight\" is no unit of a limit; expected second, minute, hour or day",
            " --> c.toml:1:22",
            "  |",
            "1 | rate_limit_default = '5/fortnight'",
            "  |                      ^^^^^^^^^^^^^",
        ],
    );
    same(
        message("c.json", "{\n  \"auth_provider\": \"api_keys\"\n}"),
        &[
            "error: `auth_provider` must be \"api_key\" or \"jwt\", found text \"api_keys\"",
            " --> c.json:2:20",
            "  |",
            "2 |   \"auth_provider\": \"api_keys\"",
            "  |                    ^^^^^^^^^^",
            "  |",
            "  = help: did you mean `api_key`?",
        ],
    );
    same(
        message("c.yaml", "pipeline_acls:\n  etl:\n    reed: [ops]\n"),
        &[
            "error: `reed` of `etl` of `pipeline_acls` is not known",
            " --> c.yaml:3:5",
            "  |",
            "3 |     reed: [ops]",
            "  |     ^^^^",
            "  |",
            "  = help: did you mean `read`?",
        ],
    );
    same(
        message("c.toml", "trusted_proxies = ['10.0.0.0/8', '10.0.0.0/33']"),
        &[
            "error: item 2 of `trusted_proxies` must be a network such as 10.0.0.0/8 or 2001:db8::/32, found text \
             \"10.0.0.0/33\"",
            " --> c.toml:1:34",
            "  |",
            "1 | trusted_proxies = ['10.0.0.0/8', '10.0.0.0/33']",
            "  |                                  ^^^^^^^^^^^^^",
        ],
    );
    same(
        message("c.toml", "websocket_ssl_cert = 'a.pem'\ntls_cert = 'a.pem'\n"),
        &[
            "error: `websocket_ssl_cert` and `tls_cert` are one field",
            " --> c.toml:2:1",
            "  |",
            "2 | tls_cert = 'a.pem'",
            "  | ^^^^^^^^",
            "  |",
            "  = help: keep one of them",
        ],
    );
    same(
        message("c.toml", "tls_cert = 'a.pem'\n"),
        &[
            "error: `tls_cert` is set without `tls_key`",
            " --> c.toml:1:12",
            "  |",
            "1 | tls_cert = 'a.pem'",
            "  |            ^^^^^^^",
            "  |",
            "  = help: set `tls_key` too, or neither",
        ],
    );
    // Whoever writes it believes that no client comes without a certificate.
    same(
        message("c.toml", "tls_client_auth = 'required'\n"),
        &[
            "error: `tls_client_auth` is set without `tls_client_ca`: no client is asked for a certificate",
            " --> c.toml:1:19",
            "  |",
            "1 | tls_client_auth = 'required'",
            "  |                   ^^^^^^^^^^",
            "  |",
            "  = help: name the authorities that sign clients' certificates in `tls_client_ca`, or remove it",
        ],
    );
}

#[test]
fn a_byte_order_mark_shifts_nothing() {
    let shown = message("c.toml", "\u{feff}host = '::'\r\nport = true\r\n");
    assert!(
        shown.contains(" --> c.toml:2:8") && shown.contains("2 | port = true\n  |        ^^^^"),
        "{shown}"
    );
}

#[test]
fn files_with_secrets() {
    same(
        message("c.toml", "[api_keys.raw-key]\nrole = 'viewer'\npermissions = ['read', 'write']\n"),
        &[
            "error: item 2 of `permissions` of entry 1 of `api_keys` must be \"read\", \"execute\" or \"admin\", found \
             text \"write\"",
            "--> c.toml:3:24",
        ],
    );
    same(
        message("c.yaml", "jwt_secrt: hunter2\n"),
        &["error: there is no field `jwt_secrt`", "--> c.yaml:1:1", " = help: did you mean `jwt_secret`?"],
    );
    same(
        message("c.json", "{\"jwt_secret\": \"hunter2\", \"port\": true}"),
        &["error: `port` must be a whole number from 0 to 65535, found true", "--> c.json:1:35"],
    );
    same(
        message("c.toml", "store_url = 'postgres://user:hunter2@db/x'\n"),
        &[
            "error: `store_url` names PostgreSQL, but this version does not keep runs there",
            "--> c.toml:1:13",
            " = help: write \"sqlite:PATH\"",
        ],
    );
    same(
        message("c.toml", "jwt_secret = 5\n"),
        &["error: `jwt_secret` must be text, found a number", "--> c.toml:1:14"],
    );
    same(
        message("c.toml", "api_keys = { k = { role = 'viewer', rol = 'x' } }"),
        &[
            "error: `rol` of entry 1 of `api_keys` is not known",
            "--> c.toml:1:37",
            " = help: did you mean `role`?",
        ],
    );
    same(
        message("c.toml", "jwt_secret = 'file:/nowhere/secret'"),
        &[
            "error: `jwt_secret` must be in the file `/nowhere/secret`, which cannot be read: No such file or directory \
             (os error 2)",
            "--> c.toml:1:14",
        ],
    );
}

#[test]
fn the_environment() {
    same(
        env_message("TASKIQ_FLOW_REQUIRE_HTTPS", "yes"),
        &[
            "error: `require_https` must be true or false, found text \"yes\"",
            "--> environment variable TASKIQ_FLOW_REQUIRE_HTTPS",
        ],
    );
    same(
        env_message("TASKIQ_FLOW_API_KEYS", "{\"hunter2\": {\"role\": \"a\"}"),
        &[
            "error: `api_keys` must be a mapping as JSON text: EOF while parsing an object at line 1, column 25",
            "--> environment variable TASKIQ_FLOW_API_KEYS",
            " = help: write it as JSON, such as {\"name\": {\"role\": ...}}",
        ],
    );
    same(
        env_message("TASKIQ_FLOW_API_KEYS", "[\"hunter2\"]"),
        &[
            "error: `api_keys` must be a mapping, found a list",
            "--> environment variable TASKIQ_FLOW_API_KEYS",
        ],
    );
    same(
        env_message("TASKIQ_FLOW_TRUSTED_PROXIES", "10.0.0.0/8"),
        &[
            "error: `trusted_proxies` must be a list as JSON text: trailing characters at line 1, column 5",
            "--> environment variable TASKIQ_FLOW_TRUSTED_PROXIES",
            " = help: write it as JSON, such as [\"10.0.0.0/8\"]",
        ],
    );
    same(
        env_message("TASKIQ_FLOW_BROKER_URL", "redis://:hunter2@redis:6379"),
        &[
            "error: `broker_url` names Redis, but this version does not carry tasks over it",
            "--> environment variable TASKIQ_FLOW_BROKER_URL",
            " = help: write \"memory:\": tasks are carried out within the server itself",
        ],
    );
    same(
        env_message("TASKIQ_FLOW_AUTH_PROVIDER", "jwt"),
        &[
            "error: `auth_provider`: \"jwt\" has nothing to check tokens with; set `jwt_secret`, `jwt_public_keys`, `jwks_url` or `jwt_issuers`",
            "--> environment variable TASKIQ_FLOW_AUTH_PROVIDER",
        ],
    );
}

#[test]
fn flags() {
    let error = Sources::default().set("port", "70000", "--port").load().unwrap_err();
    same(
        error.to_string(),
        &["error: `port` must be a whole number from 0 to 65535, found 70000", "--> --port"],
    );
}

#[test]
fn files_that_are_none() {
    let error = |path: &std::path::Path| Sources::default().file(path).load().unwrap_err().to_string();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("c.toml");
    let path = missing.display();
    assert_eq!(
        error(&missing),
        format!(
            "error: the configuration file cannot be read: No such file or directory (os error 2)\n--> {path}"
        )
    );
    let ini = folder.path().join("c.ini");
    std::fs::write(&ini, "").unwrap();
    assert!(error(&ini).contains("name it `.toml`, `.yaml`, `.yml` or `.json`"));
    assert!(message("c.json", "[]").contains("a configuration is a mapping of fields, not a list"));
    assert!(message("c.toml", "port = \n").contains("c.toml:1"));
}
