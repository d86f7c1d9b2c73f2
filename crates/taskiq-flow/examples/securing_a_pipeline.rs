//! The guide's "Securing a Pipeline", in Rust: an API with two keys, an ACL and limits around one pipeline.
//!
//! ```sh
//! cargo run -p taskiq-flow --example securing_a_pipeline
//! curl -i -H 'X-Forwarded-Proto: https' http://127.0.0.1:8000/pipelines                                # 401
//! curl -i -H 'X-Forwarded-Proto: https' -H 'X-API-Key: invalid-key' http://127.0.0.1:8000/pipelines    # 403
//! curl -i -H 'X-Forwarded-Proto: https' -H 'X-API-Key: processor-key' http://127.0.0.1:8000/pipelines  # 200
//! ```

use std::error::Error;

use taskiq_flow::config::{ApiKey, AuthProvider, Permission, PipelineAcl};
use taskiq_flow::core::document::Format;
use taskiq_flow::core::load::load_text;
use taskiq_flow::security::AuditLogger;
use taskiq_flow::{Api, InMemoryBroker, Taskiq, TaskiqFlowConfig, create_visualization_api};

/// Cleans a list of numbers and sums it up.
const DATA_PIPELINE: &str = "
id: data-pipeline
inputs:
  numbers: { type: array, items: { type: number } }
tasks:
  - name: clean
    filter: { over: numbers, as: n, expression: 'n >= 0' }
    output: cleaned
  - name: summarise
    expression: \"{'count': cleaned | length, 'sum': cleaned | sum}\"
    inputs: [cleaned]
    output: summary
";

/// 1. Configure security.
pub(crate) fn config() -> TaskiqFlowConfig {
    TaskiqFlowConfig::builder()
        .security_enabled(true)
        .auth_provider(AuthProvider::ApiKey)
        .api_keys([
            (
                "processor-key",
                ApiKey::new("processor")
                    .pipelines(["data-pipeline"])
                    .permissions([Permission::Read, Permission::Execute]),
            ),
            (
                "admin-key",
                ApiKey::new("admin").pipelines(["*"]).permissions([
                    Permission::Read,
                    Permission::Execute,
                    Permission::Admin,
                ]),
            ),
        ])
        .jwt_secret("super-secret")
        .require_https(true)
        .pipeline_acls([(
            "data-pipeline",
            PipelineAcl::new()
                .allow(Permission::Read, ["processor", "admin"])
                .allow(Permission::Execute, ["processor", "admin"]),
        )])
        .rate_limit_enabled(true)
        .rate_limit_default("30/minute")
        .websocket_require_auth(true)
        .build()
}

/// 2. Initialize broker and API.
pub(crate) fn api(config: TaskiqFlowConfig, audit_logger: AuditLogger) -> Result<Api, Box<dyn Error>> {
    let taskiq = Taskiq::new(InMemoryBroker::new());
    let mut api = create_visualization_api(taskiq.broker().clone(), config).audit_logger(audit_logger);
    for pipeline in load_text("data-pipeline.yaml", DATA_PIPELINE, Format::Yaml)? {
        api = api.pipeline(pipeline);
    }
    Ok(api)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = config();
    // 3. Optional: a custom audit logger. This one writes where the configuration says.
    let audit_logger = AuditLogger::open(config.audit_options()?)?;
    // 4. Start. All endpoints now require authentication.
    api(config, audit_logger)?.start().await?.serve().await?;
    Ok(())
}
