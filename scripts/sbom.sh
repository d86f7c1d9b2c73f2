#!/bin/sh
# Writes target/sbom.cdx.json: the packages of the program for this platform, with versions, licences and checksums, in
# CycloneDX 1.6. Out of cargo's own tree and Cargo.lock, so that nothing needs to be installed.
set -eu
cd "$(dirname "$0")/.."
mkdir -p target
# Exactly what is built in, build scripts and tests left out.
cargo tree --locked --package taskiq-flow-cli --edges normal --prefix depth --no-dedupe --format '|{p}|{l}' |
    python3 scripts/sbom.py Cargo.lock >target/sbom.cdx.json
echo "target/sbom.cdx.json" >&2
