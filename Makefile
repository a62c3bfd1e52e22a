# Each target works alone from a fresh clone: it makes .venv, installs, does its job.
PYTHON ?= python3
BIN := .venv/bin
UV := UV_FIND_LINKS="$${PIP_FIND_LINKS-}" VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv -q pip install -c constraints.txt
# One thread per process: OpenMP threads that fight over two cores are slower than one.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Where it is set, every process compiles all of torch again: 3 seconds each.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test docs soundness chaos check format peers bench strength clean

demo: .venv/installed
	$(ONE_THREAD) $(BIN)/summiteer reproduce --quick --out out

test: .venv/installed-test
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses auto --dist loadgroup

# out/docs/index.html, without a network; a warning is an error. Then its pages are opened.
docs: .venv/installed-docs
	rm -rf out/docs
	$(ONE_THREAD) $(BIN)/python -m sphinx -q -W --keep-going -d out/doctrees docs out/docs
	$(BIN)/python -m pytest tests/test_docs_pages.py

# Proofs against independent truth; MINUTES and SEED may be given.
soundness: .venv/installed-test
	$(ONE_THREAD) $(BIN)/python -m soundness --minutes $(or $(MINUTES),5) --seed $(or $(SEED),0)

# Drivers and workers killed, disks full, files damaged; ROUNDS and SEED may be given.
chaos: .venv/installed-test
	$(ONE_THREAD) $(BIN)/python -m chaos --seed $(or $(SEED),0) $(if $(ROUNDS),--rounds $(ROUNDS))

check: .venv/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# What other attack libraries return, audited.
peers: .venv/installed-peers
	$(ONE_THREAD) $(BIN)/python -m pytest -m peer

# What is measured in docs/benchmarks.md but for "Strength", anew: on a quiet machine; SECTIONS may be given.
bench: .venv/installed-peers
	$(ONE_THREAD) $(BIN)/python -m benchmarks $(SECTIONS) --write

# Searches beside AutoAttack and other libraries: hours, once; peers' results are kept.
strength: .venv/installed-peers
	$(ONE_THREAD) $(BIN)/python -m benchmarks.strength --peers

clean:
	rm -rf .venv out

.venv/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip -q install -c constraints.txt uv
	touch $@

.venv/installed: .venv/uv pyproject.toml constraints.txt
	$(UV) -e .
	touch $@

.venv/installed-test: .venv/uv pyproject.toml constraints.txt
	$(UV) -e '.[test]'
	touch $@

.venv/installed-dev: .venv/uv pyproject.toml constraints.txt
	$(UV) -e '.[test,dev]'
	touch $@

.venv/installed-docs: .venv/uv pyproject.toml constraints.txt
	$(UV) -e '.[test,docs]'
	touch $@

.venv/installed-bench: .venv/uv pyproject.toml constraints.txt
	$(UV) -e '.[bench]'
	touch $@

# They ask for versions that do not go together, and work without them. torchvision is
# there to be imported: 0.28 goes with torch 2.13.
.venv/installed-peers: .venv/installed-test .venv/installed-bench
	$(UV) --no-deps torchattacks adv-lib secml-torch 'torchvision==0.28.*' pillow
	touch $@
