//! `audit keygen`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use taskiq_flow::security::audit::SigningKey;

use crate::args::AuditKeygenArgs;
use crate::output::{Failure, note, text};

pub(super) fn run(args: &AuditKeygenArgs) -> Result<ExitCode, Failure> {
    let (key, pem) = SigningKey::generate().map_err(Failure::failed)?;
    let path = args.out.display();
    // A key that is there may be the one that signs: it is never written over.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.out);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::wrong(format!(
            "--out: {path} is there already, and is not written over: it may be the key that signs. `openssl pkey -in {path} \
             -pubout` prints its public half"
        )),
        _ => Failure::wrong(format!("--out: {path}: {error}")),
    })?;
    let written = file.write_all(pem.expose_secret().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::failed(format!("{path}: {error}")))?;
    text(&key.verify_key().to_pem());
    note(format!("The private key is in {path}: name it in `audit_signing_key`."));
    note(
        "Keep the public key above where checkpoints are verified: `taskiq-flow audit verify --public-key`.",
    );
    Ok(ExitCode::SUCCESS)
}
