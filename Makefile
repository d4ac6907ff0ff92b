# The only list of commands: people, CI and the README use these.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
# What `make demo` streams through: file or kafka.
STREAM ?= file
# What `make chaos` does: for how long, and which faults, if the same as before.
MINUTES ?= 10
SEED ?=
# What `make order` replays.
TRANSACTIONS ?= 50000
# How often `make overhead` measures.
ROUNDS ?= 15
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
DIST = $(CARGO_TARGET_DIR)/dist/pgshovel-$(VERSION)

.PHONY: help install build plugins test demo chaos order bench overhead lint release clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: ## install what this machine lacks: Debian packages (root or sudo), Kafka, Python packages
	@tests/install.sh

build: install ## build the program, for work and the demo
	@cargo build --locked --workspace

# Those that ship with the program.
PLUGINS := file kafka postgresql

plugins: install ## build the WebAssembly components
	@plugins/build.sh $(PLUGINS)

# All targets in one go: what tests add to the features of dependencies would
# build the program a second time.
test: install ## run all tests, against real servers too
	@plugins/build.sh
	@cargo build --locked --workspace --all-targets
	@tests/run.sh

demo: ## replicate a running pgbench and compare; STREAM=kafka for a Kafka broker in between
	@examples/pgbench/run.sh $(STREAM)

chaos: plugins ## kill, pause and cut off every process while pgbench writes; MINUTES=10 SEED= STREAM=
	@cargo build --locked --workspace
	@$(CARGO_TARGET_DIR)/debug/chaos "$(MINUTES)" "$(SEED)" "$(STREAM)"

order: plugins ## replay random transactions of a source strictly; TRANSACTIONS=50000 SEED=
	@cargo build --locked --workspace
	@PGSHOVEL_TEST_ORDER_TRANSACTIONS=$(TRANSACTIONS) $(if $(SEED),PGSHOVEL_TEST_ORDER_SEED=$(SEED)) \
		tests/run.sh -p pgshovel-tests --test real -- order::property --nocapture

bench: plugins ## measure speed, memory and latency of the released program, with floors to reach
	@cargo build --locked --release -p pgshovel
	@cargo build --locked -p pgshovel-tests
	@PGSHOVEL_BINARY=$(CARGO_TARGET_DIR)/release/pgshovel $(CARGO_TARGET_DIR)/debug/bench
	@PGSHOVEL_BINARY=$(CARGO_TARGET_DIR)/release/pgshovel $(CARGO_TARGET_DIR)/debug/latency

lint: install ## check the format, and clippy without a warning
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings

overhead: ## measure what capture costs whoever writes, beside PgQ's own trigger; ROUNDS=
	@cargo build --locked -p pgshovel -p pgshovel-tests
	@$(CARGO_TARGET_DIR)/debug/overhead $(ROUNDS)

release: plugins ## build the program as it is installed, below TARGET/dist
	@cargo build --locked --release -p pgshovel
	@install -D -t $(DIST)/bin $(CARGO_TARGET_DIR)/release/pgshovel
	@install -D -m 644 -t $(DIST)/lib/pgshovel/plugins $(PLUGINS:%=$(CARGO_TARGET_DIR)/plugins/%.wasm)
	@for name in admin relay replicate; do ln -sf pgshovel $(DIST)/bin/pgshovel-$$name; done
	@echo $(DIST)

clean: ## remove what was built
	@cargo clean
