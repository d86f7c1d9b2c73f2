# The two commands of this project are `make demo` and `make test`.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: demo test lint fmt doc bench deps clean help

help:
	@echo "make demo   build and start a server on this machine with ready pipelines"
	@echo "make test   install what the tests need and run all of them"
	@echo "make lint   formatting and clippy"
	@echo "make bench  measure; see bench/README.md"

demo:
	$(CARGO) build --release --package taskiq-flow-cli
	@exec $(CARGO) run --quiet --release --package taskiq-flow-cli -- demo

# cargo-nextest is faster and says more; cargo's own runner does as well.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

test: deps lint
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace
else
	$(CARGO) test --workspace --lib --bins --tests --no-fail-fast
endif
	$(CARGO) test --workspace --doc

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

fmt:
	$(CARGO) fmt --all

doc:
	$(CARGO) doc --workspace --no-deps

bench:
	$(CARGO) bench --package taskiq-flow-bench

deps:
	./scripts/install-test-deps.sh

clean:
	$(CARGO) clean
