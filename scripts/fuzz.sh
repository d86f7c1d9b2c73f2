#!/bin/sh
# Lets libFuzzer look for crashes: each target for FUZZ_SECONDS (600), or only those named in FUZZ_TARGETS. What it finds
# is in fuzz/artifacts. New inputs go to target/fuzz-corpus; FUZZ_MERGE=1 adds those that reach new code to fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# Coverage needs unstable flags of the compiler, which this opens on the stable one: no second toolchain is needed.
export RUSTC_BOOTSTRAP=1
sanitizer=${FUZZ_SANITIZER:-none}
seconds=${FUZZ_SECONDS:-600}
failed=
for target in ${FUZZ_TARGETS:-$(cargo fuzz list)}; do
    echo "fuzz: $target, $seconds s" >&2
    found="target/fuzz-corpus/$target"
    mkdir -p "$found"
    # The first folder takes what is found. Inputs are bounded as requests are, a hang is a finding.
    cargo fuzz run --sanitizer "$sanitizer" "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 ||
        failed="$failed $target"
    if [ -n "${FUZZ_MERGE:-}" ]; then
        cargo fuzz run --sanitizer "$sanitizer" "$target" "fuzz/corpus/$target" "$found" -- -merge=1
    fi
done
[ -z "$failed" ] || { echo "fuzz: found something:$failed; see fuzz/artifacts" >&2; exit 1; }
