# make demo                     install fc7 into .venv, index data/gallery, answer one query
# make demo PHOTOS=~/Pictures   the same for your own folder
# make test                     lint, types and all tests, in an environment of their own
# make test-engines             what needs servers of its own: Milvus, PostgreSQL, Ray; EXTRA='-m light' is CI's part
# make engine-faults PHOTOS=DIR  their parts killed for an hour, many photos compared: docs/scaling.md
# make torture                  faults, hostile files and load for some hours: docs/trust.md; PARTS='killed flips'
# make screenshots              docs/images/browser-*.jpg anew, from the sample gallery; needs Chromium
# make gpu                      an environment with the GPU build of faiss (.venv-gpu)

PYTHON ?= python3
PHOTOS ?= data/gallery
SHELL := /bin/bash
PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-engines engine-faults torture lint chromium postgres screenshots gpu clean

demo: .venv/ready
	@.venv/bin/python -P -m ui.demo "$(PHOTOS)"

test: .venv-test/ready chromium
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	OMP_NUM_THREADS=1 .venv-test/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/engines

# In a network namespace: Milvus and Ray listen at every address that there is.
test-engines: .venv-test/engines postgres
	OMP_NUM_THREADS=1 .venv-test/bin/python tests/engines/namespace.py \
	  .venv-test/bin/python -m pytest -n 2 --dist loadfile tests/engines $(EXTRA)

torture: .venv-test/torture chromium
	OMP_NUM_THREADS=1 PYTHONPATH=tests .venv-test/bin/python -m torture $(PARTS) $(TORTURE)

engine-faults: .venv-test/engines postgres
	tests/engines/all_faults.sh "$(PHOTOS)"

# Where Chromium is neither there nor can be installed, its tests skip and say so.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	|| echo "Chromium is not installed: the browser tests will be skipped (apt-get install chromium)"

# Where PostgreSQL is neither there nor can be installed, its tests skip and say so.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; } \
	|| echo "PostgreSQL is not installed: its tests will be skipped (apt-get install postgresql)"

screenshots: .venv-test/ready chromium
	.venv-test/bin/python docs/screenshots.py

.venv/ready: pyproject.toml $(shell find retrieval indexer ui data/weights -type f -not -name '*.pyc')
	@$(call venv,.venv)
	.venv/bin/python $(PIP) --force-reinstall --no-deps .
	.venv/bin/python $(PIP) .
	@touch $@

.venv-test/ready: pyproject.toml
	@$(call venv,.venv-test)
	.venv-test/bin/python $(PIP) --editable '.[test]'
	@touch $@

# atheris fuzzes; its packages are for Linux alone.
.venv-test/torture: .venv-test/ready
	.venv-test/bin/python $(PIP) atheris
	@touch $@

# `milvus` carries a server, for tests alone: people have servers of their own.
.venv-test/engines: .venv-test/ready
	.venv-test/bin/python $(PIP) --editable '.[test,cluster]' 'milvus==2.3.5'
	@touch $@

# faiss-cpu and faiss-gpu own the same files, so one must be gone before the other comes.
gpu: .venv-gpu/ready
.venv-gpu/ready: pyproject.toml
	@$(call venv,.venv-gpu)
	.venv-gpu/bin/python $(PIP) .
	.venv-gpu/bin/python -m pip uninstall --quiet --yes faiss-cpu
	.venv-gpu/bin/python $(PIP) faiss-gpu
	@touch $@
	@echo "ready: .venv-gpu/bin/fc7 index FOLDER"

clean:
	rm -rf .venv .venv-test .venv-gpu demo

define venv
[ -x $(1)/bin/python ] || { echo "making $(1): torch is large, this takes some minutes"; \
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || { echo "fc7 needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }; \
  $(PYTHON) -m venv $(1) \
    || { rm -rf $(1); echo "no venv module: apt-get install python3-venv"; exit 1; }; }
endef
