# What there is to run. Anything longer than a few lines is in scripts/.
CARGO ?= cargo
# Passed through to what is run: make run ARGS="--config forebay.toml"
ARGS ?=

.PHONY: help run demo test check bench load conformance h2spec dockerfile docs clean

help: ## Lists the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Builds and runs the gateway; ARGS="--config FILE" for a file of your own
	$(CARGO) run --bin forebay -- serve $(ARGS)

demo: ## The gateway in front of scripted servers: nothing else has to be installed
	$(CARGO) run --bin forebay -- demo $(ARGS)

test: ## Installs what the tests need, then formatting, lints, all tests, SDK contracts
	scripts/test.sh

check: ## Formatting, lints, and the tests of the tree itself: the quick part of `test`
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test -p tests

bench: ## nginx and forebay side by side on the same scripted servers; then what keys, limits, cache and a configuration cost
	bench/compare $(ARGS)
	bench/features
	bench/reload

load: ## k6 against `forebay demo`; RATE and DURATION from the environment
	scripts/load.sh

conformance: ## Real vLLM, llama-server and Ollama on tiny models; installs take a while the first time
	$(CARGO) build --bin forebay
	conformance/run $(ARGS)

h2spec: ## h2spec --strict in clear text and over TLS; needs Go
	scripts/h2spec.sh

dockerfile: ## Runs the Dockerfile's build stage without a container engine
	scripts/check-dockerfile.sh

docs: ## Writes the parts of the documents that follow from the sources
	FOREBAY_BLESS=1 $(CARGO) test -q -p tests --test tidy generated

clean: ## Removes what was built
	$(CARGO) clean
