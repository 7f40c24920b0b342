# A fresh machine needs only Python and make for `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FRAMEWORKS := .venv-frameworks
OLDER := .venv-frameworks-older
CREWAI := .venv-crewai
OLDEST := .venv-sdks-oldest
LOWEST := .venv-lowest
RECIPES := .venv-recipes
PEERS := .venv-peers/opentelemetry .venv-peers/openllmetry .venv-peers/openlit
PRICES := .prices
SDKS := .venv-sdks
SITE := .venv-site
GO := .venv-go
# The tests often wait for servers, so two cores can run three files at a time. Slow files are listed first.
THREE := --numprocesses=3 --dist=loadfile --no-loadscope-reorder
LOWEST_TESTS := budgets/test_in_pipeline.py cli/test_main.py client/test_api.py \
	client/test_keeping.py client/test_running_totals.py config metrics/test_http.py metrics/test_metrics.py \
	metrics/test_rendering.py metrics/test_server.py metrics/test_snapshot.py pricing/test_genai.py \
	pricing/test_prices.py wire/test_anthropic.py wire/test_gemini.py wire/test_openai.py \
	wire/test_openai_responses.py wire/test_openai_usage.py
PAGE := $(addprefix tests/service/,test_page.py test_page_sign_in.py test_page_spending.py access/test_attacks.py)

# The tests start hundreds of Python processes, and each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-service test-demo test-page test-heavy test-faults test-frameworks test-recipes test-lowest test-chart test-rules test-sdks prices site workflows audit bench lint types servers environments dashboards kubernetes docs lock dist sbom release publish clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

demo: $(READY)  ## Run the demo until Ctrl-C, or with ARGS="--duration 20s" for 20 seconds
	@$(BIN)/python -m demo $(ARGS)

test: $(READY) lint types servers  ## Lint, check types and run the tests that have no target of their own
	$(BIN)/python -m pytest $(THREE) $(ARGS)

test-service: $(READY) servers  ## Run the tests of the service
	$(BIN)/python -m pytest tests/service $(THREE) $(addprefix --ignore=,$(PAGE)) $(ARGS)

test-demo: $(READY) servers  ## Run the demo, fill Prometheus with its sample month, and run small benchmarks
	$(BIN)/python -m pytest tests/demo tests/bench $(THREE) $(ARGS)

test-page: $(READY)  ## Open the live page, and pages that attack the service, in Chromium
	$(BIN)/python -m pytest $(PAGE) $(THREE) $(ARGS)

test-heavy: $(READY)  ## Run the load tests of the service, which take minutes
	$(BIN)/python -m pytest tests/heavy $(ARGS)

test-faults: $(READY) servers  ## Kill, fill and attack everything, and print what was lost; ARGS=--write updates docs/faults.md
	$(BIN)/python -m pytest tests/faults --numprocesses=2 $(ARGS)

test-frameworks: $(FRAMEWORKS)/.ready $(OLDER)/.ready $(CREWAI)/.ready $(OLDEST)/.ready  ## Run the tests with frameworks and with older SDKs
	$(FRAMEWORKS)/bin/python -m pytest tests/frameworks/newest -o filterwarnings=default $(ARGS)
	$(OLDER)/bin/python -m pytest tests/frameworks/older tests/taps $(THREE) -o filterwarnings=default $(ARGS)
	$(CREWAI)/bin/python -m pytest tests/frameworks/crewai -o filterwarnings=default $(ARGS)
	$(OLDEST)/bin/python -m pytest tests/taps $(THREE) -o filterwarnings=default $(ARGS)

test-recipes: $(RECIPES)/.ready  ## Run what docs/recipes.md shows; needs Java for Spark
	$(RECIPES)/bin/python -m tools.binaries redis-server
	$(RECIPES)/bin/python -m pytest tests/recipes --numprocesses=2 -o filterwarnings=default $(ARGS)

test-lowest: $(LOWEST)/.ready  ## Run the tests that use the dependencies with the oldest releases that are allowed
	$(LOWEST)/bin/python -m pytest $(addprefix tests/,$(LOWEST_TESTS)) $(THREE) -o filterwarnings=default $(ARGS)

test-chart: $(GO)/bin/helm servers  ## Render the Helm chart, and decode it strictly
	$(BIN)/python -m pytest tests/chart $(ARGS)

test-rules: $(GO)/bin/pint $(GO)/bin/promtool  ## Lint the rules, and test them with Prometheus 3
	$(BIN)/python -m pytest tests/rules $(THREE) $(ARGS)

test-sdks: $(SDKS)/.ready  ## Run the SDKs' own tests, raw and metered; ARGS=--quick runs a part of them
	PYTHONPATH=.:tests $(SDKS)/bin/python -m sdks $(ARGS)

prices: $(READY) $(PRICES)/.ready  ## Compare our prices with LiteLLM's; ARGS="--write" accepts the differences
	$(BIN)/python -m tools.price_comparison $(PRICES)/*.whl $(ARGS)

site: $(SITE)/.ready  ## Build the documentation as a website, in site/
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet

workflows: $(READY)  ## Look for mistakes and holes in .github/workflows
	$(BIN)/uvx check-jsonschema==0.39.0 --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/uvx zizmor==1.32.0 --quiet --offline .github

audit: $(READY)  ## Look up known vulnerabilities of what the image installs; needs the internet
	$(BIN)/uvx pip-audit --strict --no-deps --disable-pip --requirement requirements-image.lock

bench: $(READY) $(if $(filter peers,$(or $(ARGS),peers)),$(PEERS:%=%/.ready))  ## Run the benchmarks; ARGS="calls" runs one of them
	$(BIN)/python -m tools.binaries redis-server
	@PYTHONPATH=tests $(BIN)/python -W ignore -m bench $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

servers: $(READY)  ## Download the servers that the tests need
	$(BIN)/python -m tools.binaries prometheus promtool alertmanager amtool redis-server

environments: $(addsuffix /.ready,$(FRAMEWORKS) $(OLDER) $(CREWAI) $(OLDEST) $(RECIPES) $(LOWEST) $(SDKS))  ## Install what the tests with environments of their own need

dashboards: $(READY)  ## Generate the dashboards and the rules they read; ARGS="--labels team" adds labels
	$(BIN)/python -m tools.dashboards $(ARGS)

kubernetes: $(GO)/bin/helm  ## Generate kubernetes/*.yml from the chart
	$(BIN)/python -m kubernetes.manifests $(GO)/bin/helm

docs: $(READY)  ## Generate the tables of the documentation
	$(BIN)/python docs/generate.py

lock: $(READY)  ## Pin the newest releases that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra all --group dev --custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra all --group dev --group frameworks --custom-compile-command "make lock" \
		--output-file requirements-frameworks.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--group frameworks-older --custom-compile-command "make lock" \
		--output-file requirements-frameworks-older.lock
	$(BIN)/uv pip compile pyproject.toml --python-platform linux --python-version 3.11 --generate-hashes --upgrade \
		--group frameworks-crewai --custom-compile-command "make lock" \
		--output-file requirements-frameworks-crewai.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra openai --extra server --group recipes --custom-compile-command "make lock" \
		--output-file requirements-recipes.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--group sdks-oldest --custom-compile-command "make lock" --output-file requirements-sdks-oldest.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--resolution lowest-direct --extra openai --extra anthropic --extra google --extra server --group lowest \
		--custom-compile-command "make lock" --output-file requirements-lowest.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra all --group image --constraint requirements.lock --custom-compile-command "make lock" \
		--output-file requirements-image.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-deps \
		--group pyproject.toml:prices --custom-compile-command "make lock" --output-file requirements-prices.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
		--group pyproject.toml:site --custom-compile-command "make lock" --output-file requirements-site.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
		--group pyproject.toml:go --custom-compile-command "make lock" --output-file requirements-go.lock
	for peer in $(notdir $(PEERS)); do \
		$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-annotate \
			--group pyproject.toml:peer-$$peer --custom-compile-command "make lock" \
			--output-file bench/peers/$$peer.lock; \
	done
	grep -oE '^(anthropic|google-genai|openai)==[^ ]+' requirements.lock > $(VENV)/sdks.txt
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--group sdks --constraint $(VENV)/sdks.txt --custom-compile-command "make lock" \
		--output-file requirements-sdks.lock

dist: $(READY)  ## Build the package
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

sbom: $(READY)  ## List what the image installs, as CycloneDX
	$(BIN)/uvx --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements-image.lock \
		--pyproject pyproject.toml --output-reproducible -o sbom.json

release: $(READY)  ## Cut a release with VERSION=0.2.0: the changelog, the version, a commit and a tag
	$(BIN)/python -m tools.release cut $(VERSION)
	git commit --quiet --message "Release $(VERSION)" CHANGELOG.md pyproject.toml charts
	git tag --annotate "v$(VERSION)" --message "llm-exporter $(VERSION)"

publish: $(READY)  # only .github/workflows/release.yml may, which the index trusts
	$(BIN)/uv publish --trusted-publishing always dist/*

# uv installs in seconds what takes pip minutes. It does not read pip's configuration, so pip is the second choice.
export UV_SYSTEM_CERTS := 1
install = $(BIN)/uv pip install --quiet --python $(@D) $(1) \
	|| $(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(1)
LOCKED := --require-hashes --no-deps --requirement
PACKAGE := --no-build-isolation --no-deps --editable .

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is required: make PYTHON=...")'
	$(PYTHON) -m venv $(@D)
	sed -n '/^uv==/,/[^\\]$$/p' $< > $(@D)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCKED) $(@D)/uv.lock
	$(call install,$(LOCKED) $<)
	$(call install,$(PACKAGE))
	@touch $@

$(FRAMEWORKS)/.ready: requirements-frameworks.lock
$(OLDER)/.ready: requirements-frameworks-older.lock
$(CREWAI)/.ready: requirements-frameworks-crewai.lock
$(OLDEST)/.ready: requirements-sdks-oldest.lock
$(LOWEST)/.ready: requirements-lowest.lock
$(RECIPES)/.ready: requirements-recipes.lock
$(SDKS)/.ready: requirements-sdks.lock

%/.ready: pyproject.toml | $(READY)
	$(PYTHON) -m venv $(@D)
	$(call install,$(LOCKED) $(filter %.lock,$^))
	$(call install,$(PACKAGE))
	@touch $@

# Other instrumentations, which `make bench` compares ours with. Ours is not in their environments.
.venv-peers/%/.ready: bench/peers/%.lock | $(READY)
	$(PYTHON) -m venv $(@D)
	$(call install,$(LOCKED) $<)
	@touch $@

# The package is not in this environment either.
$(SITE)/.ready: requirements-site.lock | $(READY)
	$(PYTHON) -m venv $(@D)
	$(call install,$(LOCKED) $<)
	@touch $@

# Go builds tools from the modules in their go.sum.
$(GO)/.ready: requirements-go.lock | $(READY)
	$(PYTHON) -m venv $(@D)
	$(call install,$(LOCKED) $<)
	@touch $@

build = cd $< && $(abspath $(GO))/bin/go build -o $(abspath $(@D))/

$(GO)/bin/helm: tests/chart/tools $(wildcard tests/chart/tools/go.* tests/chart/tools/decode/*) $(GO)/.ready
	$(build) helm.sh/helm/v3/cmd/helm ./decode

$(GO)/bin/pint: tests/rules/tools/pint $(wildcard tests/rules/tools/pint/*) $(GO)/.ready
	$(build) github.com/cloudflare/pint/cmd/pint

# Without service discovery, most of which is the software of clouds.
$(GO)/bin/promtool: tests/rules/tools/promtool $(wildcard tests/rules/tools/promtool/*) $(GO)/.ready
	$(build) -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool

# Only the price table inside the wheel is read, so LiteLLM and its dependencies are not installed.
$(PRICES)/.ready: requirements-prices.lock | $(READY)
	rm -rf $(@D)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
		--dest $(@D) -r $<
	@touch $@

clean:  ## Remove virtual environments, caches and builds
	rm -rf $(VENV) $(FRAMEWORKS) $(OLDER) $(CREWAI) $(OLDEST) $(LOWEST) $(RECIPES) $(PRICES) $(SDKS) $(SITE) $(GO) .venv-peers site
	rm -f sbom.json
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
