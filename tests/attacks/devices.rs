//! Files that are none.

use crate::support::builder;

#[tokio::test]
async fn an_audit_log_on_a_device_is_not_read_back() {
    let server = builder().env("TASKIQ_FLOW_AUDIT_LOG", "/dev/null").start().await;
    let admin = server.plain_client().key("admin-key");
    for path in ["/security/audit", "/security/audit/verify"] {
        assert_eq!(admin.get(path).await.status, 409, "{path}");
    }
}
