# What there is to run; `make` alone lists it.

# Where rustup puts cargo, also when this shell was started before that.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint page compare figures docker

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Check for what a build needs; on Debian and Ubuntu install what is missing
	@scripts/setup

demo: setup ## Run an app with its sidecar and admin API on loopback; Ctrl-C ends it
	cargo run --profile quick -- demo

test: setup ## Run all tests
	@if command -v python3 >/dev/null; then \
		(cd benches/compare && python3 -B -m unittest discover --start-directory harness --top-level-directory .) && \
		(cd benches/resilience && python3 -B -m unittest discover --start-directory faults --top-level-directory .); \
	else \
		echo "NOT RUN: the tests of benches/compare/harness and benches/resilience/faults; there is no python3"; \
	fi
	cargo test --workspace --no-fail-fast

lint: setup ## Check format, lints and dependencies (those if cargo-deny is installed)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/deny

page: setup ## Drive the admin page in headless Chromium, and take its screenshots (needs Node and Chromium)
	@scripts/page

compare: setup ## Measure beside nginx, HAProxy and Envoy: about 4 minutes, two cores
	cargo build --release
	benches/compare/run

figures: setup ## Make the tables and drawings of the docs that tests make (ignored ones: minutes, a quiet machine)
	cargo test --workspace --profile quick --lib -- --ignored --nocapture

docker: ## Build the container image `pillion`
	docker build --tag pillion .
