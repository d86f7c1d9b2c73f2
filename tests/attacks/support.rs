//! The server that is attacked.

use taskiq_flow_testkit::{Reply, Server, ServerBuilder};

pub(crate) const SECRET: &str = "a jwt secret of thirty-two bytes or more";

const CONFIG: &str = r#"
require_https = false
rate_limit_enabled = false
auth_failure_limit = ""
jwt_secret = "a jwt secret of thirty-two bytes or more"
role_permissions = { boss = ["read", "execute"] }
pipeline_acls = { secret = { read = ["boss"], execute = ["boss"] } }

[api_keys.admin-key]
id = "ops"
role = "admin"
pipelines = ["*"]
permissions = ["read", "execute", "admin"]

[api_keys.author-key]
id = "author"
role = "author"
pipelines = ["open*"]
permissions = ["read", "execute", "admin"]

[api_keys.reader-key]
id = "reader"
role = "reader"
pipelines = ["open", "glob_*"]
permissions = ["read"]
"#;

const PIPELINE: &str = "inputs: { x: { default: 1 } }\ntasks:\n  - { name: t, expression: x, inputs: [x] }\n";

pub(crate) fn builder() -> ServerBuilder {
    let server = Server::builder(env!("CARGO_BIN_EXE_taskiq-flow")).config_toml(CONFIG);
    ["open", "secret", "glob_a"]
        .iter()
        .fold(server, |server, id| server.pipeline(&format!("id: {id}\n{PIPELINE}")))
}

/// An answer without what differs from request to request.
pub(crate) fn told(reply: &Reply) -> (u16, String) {
    let mut body = reply.json();
    body.as_object_mut().unwrap().shift_remove("request_id");
    (reply.status, body.to_string())
}
