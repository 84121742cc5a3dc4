# Each target does its own set-up: a .venv with the exact packages of requirements-dev.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' estimator_lib/core/version.py)
READY := .venv/.ready
FLIGHTS := pipelines/examples/flights
RETRAINING := pipelines/examples/retraining
PROFILES := cpu gpu restricted
COMPILE := $(BIN)/estimator-pipelines compile $(FLIGHTS)/config.yaml
TUNE := --set tune=@$(FLIGHTS)/tune.yaml

EXTRAS := --extra s3 --extra gcs --extra azure --extra trees
# For every version of Python, with the digests of every package's files.
LOCK = uv pip compile -q --universal --python-version 3.11.5 --generate-hashes --no-annotate \
  --custom-compile-command "make lock" $(ARGS)

.PHONY: demo test faults soak cluster-test store-test docs coverage lint format bench specs specs-check lock pythons sbom \
  image clean

demo: $(READY)
	@$(BIN)/python -m pipelines.examples.flights.data
	@$(BIN)/estimator-pipelines run $(FLIGHTS)/config.yaml --output runs/flights

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Forty faults and bad inputs, a row each.
faults: $(READY)
	$(BIN)/python -m pytest tests/faults --faults-table

# Two hours at most of what `faults` tries for minutes: ARGS="kills --minutes 30 --seed 1".
soak: $(READY)
	$(BIN)/python -m tests.soak $(ARGS)

# Object stores on this machine, each with its faults. The first run installs fake-gcs-server (with
# Go) and Azurite (with npm) into STORE_CACHE; what cannot be installed is skipped.
STORE_CACHE ?= $(HOME)/.cache/estimator-pipelines/stores
store-test: $(READY)
	@mkdir -p $(STORE_CACHE)
	@test -x $(STORE_CACHE)/fake-gcs-server \
	  || GOBIN=$(STORE_CACHE) go install github.com/fsouza/fake-gcs-server@v1.56.1 || true
	@test -x $(STORE_CACHE)/node_modules/.bin/azurite-blob \
	  || npm install --silent --no-audit --no-fund --prefix $(STORE_CACHE) azurite@3 || true
	STORE_CACHE=$(STORE_CACHE) $(BIN)/python -m pytest tests/stores tests/e2e/test_stores.py -rs

# A real one-node Kubernetes: root, Go and the package registries are needed. The first run builds
# for about ten minutes, into CLUSTER_CACHE. Its tests are not among those of `make test`.
cluster-test: $(READY)
	$(BIN)/python -m pytest tests/cluster -rs --timeout=0 \
	  -o log_cli=true -o log_cli_level=INFO -o log_cli_format="%(asctime)s %(message)s"

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q
	@echo "build/site/index.html"

# All tests, with the lines of the libraries that no test reaches in this process.
coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=estimator_lib --cov=transforms --cov=components --cov=pipelines \
	  --cov-report=term-missing:skip-covered

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

# One for the example as it is, one for each placement, cluster-*.yaml, and one per pipeline.
specs: $(READY)
	@$(COMPILE) -o pipeline_specs/flights.yaml $(CHECK)
	@for profile in $(PROFILES); do \
	  $(COMPILE) --set cluster=@$(FLIGHTS)/cluster-$$profile.yaml \
	    -o pipeline_specs/flights-$$profile.yaml $(CHECK) || exit 1; \
	done
	@$(COMPILE) $(TUNE) --set pipeline=tuned_training \
	  -o pipeline_specs/flights-tuned-training.yaml $(CHECK)
	@$(COMPILE) $(TUNE) --set pipeline=tuned_training --set tune.separate_tasks=true \
	  --set tune.sampler=random --set tune.pruner=none --set tune.parallel=9 \
	  -o pipeline_specs/flights-tuned-training-tasks.yaml $(CHECK)
	@$(COMPILE) --set pipeline=batch_prediction --set predict=@$(FLIGHTS)/predict.yaml \
	  -o pipeline_specs/flights-batch-prediction.yaml $(CHECK)
	@$(BIN)/estimator-pipelines katib $(FLIGHTS)/config.yaml $(TUNE) \
	  -o pipeline_specs/flights-katib.yaml $(CHECK)
	@$(BIN)/estimator-pipelines jobset $(FLIGHTS)/config.yaml \
	  --set cluster=@$(FLIGHTS)/cluster-cpu.yaml \
	  --set 'train.cluster={mode: async, workers: 3, parameter_servers: 2}' \
	  -o pipeline_specs/flights-jobset.yaml $(CHECK)
	@$(BIN)/estimator-pipelines compile $(RETRAINING)/config.yaml \
	  -o pipeline_specs/flights-monthly.yaml $(CHECK)

specs-check:
	@$(MAKE) --no-print-directory specs CHECK=--check

# Needs uv (`pip install uv`). Pins stay as they are, unless ARGS=--upgrade or
# ARGS="--upgrade-package NAME". -dev is what .venv has; the image has the others.
lock:
	$(LOCK) pyproject.toml --extra dev $(EXTRAS) -o requirements-dev.txt
	$(LOCK) pyproject.toml $(EXTRAS) -c requirements-dev.txt -o requirements.txt
	$(LOCK) pyproject.toml --extra gpu $(EXTRAS) -c requirements-dev.txt -o requirements-gpu.txt
	$(LOCK) --group build -c requirements-dev.txt -o requirements-build.txt

# The lock files for each other Python, and a run with the newest that is here: ARGS="3.12 3.13".
pythons: $(READY)
	$(BIN)/python -m tests.pythons $(ARGS)

# What the image has, as CycloneDX; refused if it is no valid document.
sbom: $(READY)
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --validate --of JSON -o build/sbom.json requirements.txt

REQUIREMENTS := requirements.txt
image:
	docker build --build-arg REQUIREMENTS=$(REQUIREMENTS) -t estimator-pipelines-python:$(VERSION) .

clean:
	rm -rf .venv runs $(FLIGHTS)/data $(RETRAINING)/data

# The stamp is written last, so an interrupted set-up starts over.
$(READY): requirements-dev.txt pyproject.toml
	@echo "setting up .venv (once; about 3 GB of packages)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))' \
	  || { echo "error: Python 3.11.5 to 3.13 is needed, found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11."; exit 2; }
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@if command -v uv >/dev/null; then \
	  uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements-dev.txt && \
	  uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $(READY)
