# The two commands of this project are `make demo` and `make test`.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: demo test crash-matrix lint fmt doc bench bench-instructions fuzz deny sbom deps clean help

help:
	@echo "make demo   build and start a server on this machine with ready pipelines"
	@echo "make test   install what the tests need and run all of them"
	@echo "make crash-matrix   kill the server 50 times at each of 25 places; see tests/crash"
	@echo "make lint   formatting and clippy"
	@echo "make bench  measure; see bench/README.md"
	@echo "make bench-instructions   count the instructions of hot functions, by valgrind"
	@echo "make fuzz   let libFuzzer look for crashes; see fuzz/README.md"
	@echo "make deny   licences, bans, sources and advisories of all dependencies, by cargo-deny"
	@echo "make sbom   write target/sbom.cdx.json: what the program is made of (CycloneDX)"

demo:
	$(CARGO) build --release --package taskiq-flow-cli
	@exec $(CARGO) run --quiet --release --package taskiq-flow-cli -- demo

# cargo-nextest is faster and says more; cargo's own runner does as well.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

# A build of its own, in which the server dies where it is told to.
CRASH := --package taskiq-flow-cli --features failpoints --test crash

test: deps lint
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace
	$(CARGO) nextest run $(CRASH)
else
	$(CARGO) test --workspace --lib --bins --tests --no-fail-fast
	$(CARGO) test $(CRASH) -- --test-threads 2
endif
	$(CARGO) test --workspace --doc

# CRASH_KILLS at each place; `make test` makes do with two.
crash-matrix:
	CRASH_KILLS=$${CRASH_KILLS:-50} $(CARGO) test $(CRASH) -- --test-threads 2

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) clippy $(CRASH) -- --deny warnings

fmt:
	$(CARGO) fmt --all

doc:
	$(CARGO) doc --workspace --no-deps

# Some of them measure the program itself, beside which the benchmarks are built.
bench:
	$(CARGO) build --release --package taskiq-flow-cli
	$(CARGO) bench --package taskiq-flow-bench

bench-instructions:
	$(CARGO) bench --package taskiq-flow-bench --bench instructions

# FUZZ_SECONDS for each target; FUZZ_TARGETS for some of them only.
fuzz:
	./scripts/fuzz.sh

deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny check

sbom:
	./scripts/sbom.sh

deps:
	./scripts/install-test-deps.sh

clean:
	$(CARGO) clean
