# Two commands matter: `make run` and `make test`. The rest are parts of them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
in_env := scripts/in-env
# Everything a build writes lies here, outside the checkout.
cache := $${LLM_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/llm}

.PHONY: help run test test-long soak bench bench-peers bench-engine dist build lint fmt clean-cache

help: ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## (.*)/  make \1\t\2/; s/test-%/test-STAGE/' | expand -t 22

run: ## install what is missing, build, fetch the models, serve, ask one question
	@$(in_env) scripts/run

test: ## decide whether it works: formats, licences, lints, unit, house, vLLM, docs, make run
	@$(in_env) scripts/check

test-long: ## the same at full counts (LLM_TEST_FACTOR, 10), from a source archive, the coverage of llm-core, the benches
	@LLM_TEST_FACTOR=$${LLM_TEST_FACTOR:-10} $(in_env) scripts/check --long

soak: ## an hour of mixed traffic against upstreams that misbehave (LLM_SOAK_S, LLM_SOAK_SEED)
	@LLM_SOAK_S=$${LLM_SOAK_S:-3600} $(in_env) scripts/check soak

test-%: ## one stage of it: tools format deny scripts build clippy unit vllm house vllm-own features docs run
	@$(in_env) scripts/check $*

lint: ## format, licences, clippy
	@$(in_env) scripts/check tools format deny clippy

bench: ## the server's CPU per request beside nginx
	@$(in_env) scripts/check bench

bench-peers: ## the same beside other LLM gateways, and what each does: only when asked for
	@$(in_env) scripts/check bench-peers

dist: ## the programs for every machine of this kind, in dist/: they pick their CPU's instructions when they start
	@$(in_env) scripts/dist

bench-engine: ## the engine's tokens per second beside llama.cpp's own server
	@$(in_env) scripts/check bench-engine

build: ## compile everything
	@$(in_env) scripts/check tools build

fmt: ## format all code
	@cargo fmt --all

clean-cache: ## remove all that was built, installed and fetched (several GB)
	@cd "$(cache)" && echo "emptying $$PWD" && rm -rf target ccache tools clients vllm wheels peers bench-engine *.lock *.log
