# Everything sets itself up in .venv from python3 and make alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help demo test integration check format docs proto bench bench-ingest bench-small bench-decode bench-redact bench-grade bench-gate cards soak clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing tracegrade into $(VENV) ..."
	@$(PIP) install -U 'pip>=25.1'
	@$(PIP) install -e '.[embedded]' --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the development tools into $(VENV) ..."
	@$(PIP) install -e '.[embedded]' --group demo --group dev
	@touch $@

demo: $(VENV)/.run ## Run the main job end to end, offline: agent, traces, grades, decisions (ARGS=--keep leaves it up)
	@$(BIN)/tracegrade demo $(ARGS)

test: $(VENV)/.dev ## Run the tests
	@$(BIN)/python -m pytest $(ARGS)

# Helm's own binary, through Go's module proxy: about four minutes of one core, once a machine.
HELM_VERSION := v3.22.0
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tracegrade
HELM := $(CACHE)/bin/helm-$(HELM_VERSION)

$(HELM):
	@command -v go >/dev/null || { echo "building Helm needs Go; install it, or put a helm at $(HELM)" >&2; exit 1; }
	@echo "building Helm $(HELM_VERSION) into $(@D); this takes a few minutes ..."
	@mkdir -p $(@D) && cd $(@D) && GOBIN=$(@D)/build go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	@mv $(@D)/build/helm $@ && rmdir $(@D)/build

$(VENV)/.integration: $(VENV)/.dev
	@$(PIP) install --group integration
	@touch $@

# JavaScript clients as tests/js pins them, where there is an npm: about ten seconds and 70 MB.
ifneq ($(shell command -v npm),)
JS := $(CACHE)/js
endif

$(CACHE)/js/.done: tests/js/package.json tests/js/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D) && cd $(@D) && npm ci --silent --no-audit --no-fund
	@touch $@

# The OpenTelemetry Collector with the exporters that lead to us, by its own builder: about three minutes of one core.
OTELCOL_VERSION := v0.161.0
OTELCOL := $(CACHE)/bin/otelcol-$(OTELCOL_VERSION)

$(OTELCOL): tests/integration/otelcol.yaml
	@echo "building the OpenTelemetry Collector $(OTELCOL_VERSION) into $(@D); this takes a few minutes ..."
	@mkdir -p $(CACHE)/otelcol $(@D)
	@GOBIN=$(CACHE)/otelcol go install go.opentelemetry.io/collector/cmd/builder@$(OTELCOL_VERSION)
	@cd $(CACHE)/otelcol && ./builder --skip-strict-versioning --config $(CURDIR)/$< >build.log 2>&1 || { tail build.log >&2; exit 1; }
	@mv $(CACHE)/otelcol/build/otelcol $@

# A Kafka broker's jars from Maven Central, where there are Java and Maven; and beside it an older engine, the last one that can
# read from it in a process of its own.
ifneq ($(and $(shell command -v java),$(shell command -v mvn)),)
KAFKA := $(CACHE)/kafka
endif
KAFKA_ENGINE := $(CACHE)/chdb-26.1

$(CACHE)/kafka/.done: tests/integration/kafka-pom.xml
	@mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(@D)
	@touch $@

$(KAFKA_ENGINE)/.done:
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -q install 'chdb-core==26.1.0'
	@touch $@

NEIGHBOURS := $(HELM) $(OTELCOL) $(if $(JS),$(JS)/.done) $(if $(KAFKA),$(KAFKA)/.done $(KAFKA_ENGINE)/.done)

integration: $(VENV)/.integration $(NEIGHBOURS) ## Tests against real neighbours; needs Go, and takes node and Java where they are
	@TRACEGRADE_HELM=$(HELM) TRACEGRADE_OTELCOL=$(OTELCOL) $(if $(JS),TRACEGRADE_JS=$(JS)) \
	  $(if $(KAFKA),TRACEGRADE_KAFKA=$(KAFKA) TRACEGRADE_KAFKA_ENGINE=$(KAFKA_ENGINE)) \
	  $(BIN)/python -m pytest -m integration $(ARGS)

check: $(VENV)/.dev ## Formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## Write docs/dialects.md from the dialect mapping and the recordings
	@PYTHONPATH=. $(BIN)/python tests/dialects/docs.py

# Checked in, so that nobody needs protoc to install or to test. This old, so that it asks for no newer grpcio and protobuf than
# the rest does; in an environment of its own, because it wants an older protobuf. It has wheels for Python 3.11 and 3.12.
$(VENV)/protoc/.done:
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -q install 'grpcio-tools==1.63.2' 'setuptools<81'
	@touch $@

proto: $(VENV)/protoc/.done ## Write gate/pb from proto/
	@$(VENV)/protoc/bin/python -W ignore -m grpc_tools.protoc -Igate/pb=proto/tracegrade/gate/v1 \
	  --python_out=. --pyi_out=. --grpc_python_out=. gate/pb/gate.proto

bench: bench-ingest bench-small bench-redact bench-grade bench-lag bench-gate ## Run every benchmark

bench-ingest: $(VENV)/.dev ## Ingest against rotel and Phoenix; the last line is JSON
	@$(BIN)/python bench/ingest.py $(ARGS)

bench-small: $(VENV)/.dev ## Small requests beside rotel, the OpenTelemetry Collector and Phoenix; the last line is JSON
	@$(BIN)/python bench/small.py $(ARGS)

bench-redact: $(VENV)/.dev ## What redaction costs and finds, beside plain re and Presidio; the last line is JSON
	@$(BIN)/python bench/redact.py $(ARGS)

bench-decode: $(VENV)/.dev ## What decides the cost of a span inside ClickHouse; the last line is JSON
	@$(BIN)/python bench/decode.py $(ARGS)

bench-grade: $(VENV)/.dev ## Agent spans a second a core; the last line is JSON
	@$(BIN)/python bench/grade.py $(ARGS)

bench-lag: $(VENV)/.dev ## How far the graders are behind at a given rate, and their memory; the last line is JSON
	@$(BIN)/python bench/lag.py $(ARGS)

bench-gate: $(VENV)/.dev ## Time of a decision; the last line is JSON
	@$(BIN)/python bench/decide.py $(ARGS)

cards: $(VENV)/.dev ## Write docs/cards.md from labelled data in REAL_DATA or ../shared/data (ARGS=--direct takes no server)
	@$(BIN)/python -m bench.cards --write-docs $(ARGS)

soak: $(VENV)/.dev ## Ten minutes of faults while clients send; nothing acknowledged may be lost (ARGS='--minutes 60')
	@$(BIN)/python bench/soak.py $(ARGS)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
