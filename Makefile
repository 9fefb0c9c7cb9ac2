# The menu. Logic lives in xtask; `make` alone lists the verbs.
XTASK := cargo run --quiet --locked --package xtask --
.DEFAULT_GOAL := help
.PHONY: help build demo test bench lint doc audit clean

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build everything into target/dist/{bin,libexec}
	@sh xtask/setup.sh build
	@$(XTASK) dist

demo: ## convert a real Flask image and watch it serve from an attested enclave
	@sh xtask/setup.sh demo
	@$(XTASK) demo

test: ## run every test against real parts
	@sh xtask/setup.sh test
	@$(XTASK) test

bench: ## measure against native and the named peers, side by side
	@sh xtask/setup.sh bench
	@$(XTASK) bench

lint: ## format, clippy, documentation, style, banned dependencies
	@sh xtask/setup.sh build
	@$(XTASK) lint

doc: ## build the API documentation
	@cargo doc --locked --workspace --no-deps

audit: ## licences, sources and advisories (needs cargo-deny and its database)
	@$(XTASK) audit

clean: ## remove what was built
	@cargo clean
