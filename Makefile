# Heimdall worker. `make` lists the targets; `make demo` and `make test` do all the set-up they need.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON_IN_VENV := $(BIN)/python
READY := $(VENV)/.project
NETWORK ?=
SWAPS ?= 50
MINUTES ?= 0.5
QUICK ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=
AUDIT ?=
TARGET ?= worker
PYTEST_ARGS ?=

CHECKED := worker schemas client
UV_COMPILE := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --quiet

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Run ---------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## 60 jobs through a real broker and worker; table, map and GeoJSON in out/demo (NETWORK=northwest)
	@$(PYTHON_IN_VENV) -m examples.demo $(NETWORK)

.PHONY: run
run: $(READY) ## RabbitMQ, Redis, demo model and one worker until Ctrl-C
	@$(PYTHON_IN_VENV) -m deploy.local.run

.PHONY: map
map: $(READY) ## The local stack, simulated transmitters that move, and `heimdall map` to watch them, until Ctrl-C (NETWORK=northwest)
	@$(PYTHON_IN_VENV) -m examples.map_demo $(NETWORK)

# A shared disk stalls now and then for longer than what is measured; servers and workers keep their files off it.
IN_MEMORY = $(shell test -w /dev/shm && echo /dev/shm || echo $${TMPDIR:-/tmp})

.PHONY: swaps
swaps: $(READY) ## 50 changes of the model under load on two workers; ends with a line of figures (SWAPS=50)
	@TMPDIR=$(IN_MEMORY) $(PYTHON_IN_VENV) -m bench.swaps --swaps $(SWAPS)

.PHONY: bench
bench: $(READY) ## Worker, floors, plain script and peers against each other; report in out/bench (QUICK=1 BENCH_ARGS=…)
	@$(PYTHON_IN_VENV) -m bench $(if $(QUICK),--quick) $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: ## The same in under 5 minutes, without peers
	@$(MAKE) bench QUICK=1

.PHONY: chaos
chaos: $(READY) ## 21 ways to break everything under load, and what became of each job (QUICK=1: a minute of it)
	@$(PYTHON_IN_VENV) -m bench.chaos $(if $(QUICK),--quick) $(CHAOS_ARGS)

.PHONY: fuzz
fuzz: $(READY) ## A million odd inputs on every reader of outside bytes, then by coverage (MINUTES=0.5 per target)
	@$(PYTHON_IN_VENV) -m bench.fuzz --minutes-per-target $(MINUTES)

.PHONY: train
train: .venv-train/.ready ## Train the demo model anew (PyTorch, in .venv-train; NETWORK=northwest)
	@.venv-train/bin/python -m examples.train $(if $(NETWORK),--network $(NETWORK))

.PHONY: powder
powder: $(READY) ## Location from really measured powers (../shared/powder) by `heimdall evaluate`; out/powder (DATA=FILE)
	@$(PYTHON_IN_VENV) -m examples.powder $(if $(DATA),--data "$(DATA)")

.PHONY: powder-train
powder-train: $(READY) ## Train the models of `make powder` anew (numpy, minutes)
	@OPENBLAS_NUM_THREADS=1 $(PYTHON_IN_VENV) -m examples.powder.train

# --- Check -------------------------------------------------------------------------------------------------------------

.PHONY: test
test: lint types imports ## Everything: lint, types, import contracts, all tests on real servers, coverage
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(PYTEST_ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --fail-under=90

.PHONY: lint
lint: $(READY) ## ruff: rules and formatting
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "lint: clean"

.PHONY: types
types: $(READY) ## mypy --strict
	@$(BIN)/mypy --no-error-summary $(CHECKED:%=-p %) -p deploy.local -p docs -p bench
	@echo "types: clean"

.PHONY: imports
imports: $(READY) ## import-linter: imports run one way
	@$(BIN)/lint-imports > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@echo "imports: clean"

.PHONY: unit
unit: $(READY) ## The unit tests
	@$(BIN)/pytest -q tests/unit $(PYTEST_ARGS)

.PHONY: audit
audit: $(READY) ## Locks, unsafe code, known vulnerabilities, bill of materials in out/sbom (AUDIT=--offline: without advisories)
	@$(PYTHON_IN_VENV) -m deploy.local.audit $(AUDIT)

.PHONY: image
image: $(READY) ## Build deploy/Dockerfile without a container engine, and look at what came of it (TARGET=mlflow; as root)
	@$(PYTHON_IN_VENV) -m deploy.local.image $(TARGET)

.PHONY: integration
integration: $(READY) ## The tests on real servers and processes
	@$(BIN)/pytest -q tests/contract tests/golden tests/integration tests/acceptance $(PYTEST_ARGS)

# --- Set up ------------------------------------------------------------------------------------------------------------

.PHONY: venv
venv: $(READY) ## The virtual environment, from requirements/dev.lock

$(VENV)/.dependencies: requirements/dev.lock
	@sh deploy/local/venv.sh $(VENV) --require-hashes -r requirements/dev.lock
	@touch $@

$(READY): $(VENV)/.dependencies pyproject.toml
	@sh deploy/local/venv.sh $(VENV) --no-deps --no-build-isolation -e .
	@touch $@

.venv-train/.ready: requirements/train.txt
	@sh deploy/local/venv.sh .venv-train -r requirements/train.txt
	@touch $@

.PHONY: lock
lock: $(READY) ## Resolve every lock file anew
	@$(BIN)/pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	@$(UV_COMPILE) --upgrade pyproject.toml --all-extras --group dev -o requirements/dev.lock
	@$(UV_COMPILE) --upgrade pyproject.toml --extra worker --extra s3 --extra tracing -o requirements/worker.lock
	@$(UV_COMPILE) --upgrade deploy/requirements/mlflow.in -o deploy/requirements/mlflow.lock
	@$(UV_COMPILE) --upgrade deploy/requirements/build.in -c requirements/dev.lock -o deploy/requirements/build.lock
	@$(UV_COMPILE) --upgrade deploy/requirements/gpu.in -c requirements/worker.lock -o deploy/requirements/gpu.lock

.PHONY: clean
clean: ## Remove what was made here: environments, caches, out/
	@rm -rf .venv .venv-train out .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
