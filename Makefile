# Entry points. Each calls cargo or a script in scripts/, which explains itself with --help. ARGS is handed on.
.DEFAULT_GOAL := help
.PHONY: help setup dev dev-kafka test campaign bench lint fmt kafka-start kafka-stop clean
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what building and testing needs (Debian, Ubuntu), or say what to install
	@scripts/setup

dev: ## run the whole product in one process, needs Rust and a C compiler only, e.g. make dev ARGS="--rate 0"
	@scripts/dev $(ARGS)

dev-kafka: ## the same on a real Kafka, which is started if need be, e.g. make dev-kafka ARGS="--duration 20s"
	@scripts/setup
	@scripts/dev-kafka $(ARGS)

test: ## everything that must hold before a change lands, on a real Kafka
	@scripts/setup --examples
	@scripts/test $(ARGS)

campaign: ## faults from a seed against a real cluster of three, e.g. make campaign ARGS="--seed 7 --faults 300"
	@scripts/setup
	@scripts/campaign $(ARGS)

bench: ## benchmarks, the whole path against a real Kafka included
	@scripts/setup
	@scripts/bench $(ARGS)

lint: ## formatting, shell scripts, clippy, documentation
	@scripts/test fmt shell clippy doc

fmt: ## format the Rust code
	@cargo fmt

kafka-start: ## start a real Kafka for development, e.g. make kafka-start ARGS="--nodes 3"
	@scripts/kafka start $(ARGS)

kafka-stop: ## stop it again
	@scripts/kafka stop $(ARGS)

clean: ## stop what was started here, remove its data and the build's output
	@scripts/clean
