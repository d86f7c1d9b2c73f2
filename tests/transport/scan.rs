//! A scanner of TLS servers looks at ours.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_testkit::within;

use crate::support::secured;

/// Findings about the certificate of the test, which signed itself, is for `localhost` and lives for days; about what only a
/// public name can have; and about the scanner itself.
const NOT_OURS: [&str; 22] = [
    "cert_chain_of_trust",
    "cert_trust",
    "cert_commonName",
    "cert_commonName_wo_SNI",
    "cert_expirationStatus",
    "cert_notAfter",
    "cert_extlifeSpan",
    "cert_validityPeriod",
    "cert_revocation",
    "cert_crlDistributionPoints",
    "cert_ocspURL",
    "cert_caIssuers",
    "cert_keyUsage",
    "cert_extKeyUsage",
    "cert_mustStapleExtension",
    "OCSP_stapling",
    "DNS_CAArecord",
    "certificate_transparency",
    "grade_cap_reason_1",
    "overall_grade",
    "engine_problem",
    "scanTime",
];

/// Worse than this nothing may be.
const BAD: [&str; 4] = ["MEDIUM", "HIGH", "CRITICAL", "FATAL"];

#[tokio::test]
async fn the_scanner_finds_no_weakness_above_low() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, _) = secured(directory.path());
    let server = builder.start().await;
    let report = directory.path().join("report.json");
    let mut scan = tokio::task::JoinSet::new();
    let (port, file) = (server.port(), report.clone());
    scan.spawn_blocking(move || {
        let mut command = Command::new("testssl");
        command.args([
            "--quiet",
            "--color",
            "0",
            "--warnings",
            "off",
            "--nodns",
            "none",
            "--ip",
            "127.0.0.1",
        ]);
        command.args(["--connect-timeout", "5", "--openssl-timeout", "5", "--jsonfile"]).arg(file);
        // All but what other clients than its own would choose.
        for part in
            ["protocols", "std", "fs", "server-preference", "server-defaults", "headers", "vulnerable"]
        {
            command.arg(format!("--{part}"));
        }
        command.arg(format!("localhost:{port}"));
        let output = command.output();
        output.unwrap_or_else(|error| panic!("testssl (scripts/install-test-deps.sh installs it): {error}"))
    });
    let output = within(Duration::from_secs(170), "testssl", scan.join_next()).await.unwrap().unwrap();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let findings: Vec<Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    let found = |id: &str| {
        let finding = findings.iter().find(|finding| finding["id"] == id);
        finding.unwrap_or_else(|| panic!("the scan did not get to {id}: {text}"))["finding"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // It has looked, and at us.
    assert!(found("TLS1_3").starts_with("offered") && found("TLS1_2").starts_with("offered"), "{text}");
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert!(found(old).starts_with("not offered"), "{old}: {}", found(old));
    }
    for weakness in [
        "heartbleed",
        "ROBOT",
        "secure_client_renego",
        "CRIME_TLS",
        "POODLE_SSL",
        "SWEET32",
        "FREAK",
        "LOGJAM",
        "RC4",
    ] {
        assert!(found(weakness).contains("not vulnerable"), "{weakness}: {}", found(weakness));
    }
    // It was called PFS before version 3.2.
    let secrecy = findings.iter().find(|finding| finding["id"] == "FS" || finding["id"] == "PFS");
    assert!(secrecy.is_some_and(|finding| finding["severity"] == "OK"), "{text}");
    assert!(found("HSTS_time").contains("365"), "{text}");
    let bad: Vec<&Value> = findings
        .iter()
        .filter(|finding| BAD.iter().any(|severity| finding["severity"] == *severity))
        .filter(|finding| {
            !NOT_OURS.iter().any(|id| finding["id"].as_str().is_some_and(|found| found.starts_with(id)))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
