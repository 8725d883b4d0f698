# `make demo` and `make test` do all set-up by themselves on a bare Debian machine with Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
MUTATION := .venv/mutation

.PHONY: demo test test-fast coverage lint bench docs lock clean setup browser fuzz kill-test soak mutate fuzz-guard verify verify-pairs safety-case pysam blast-wear plan-peers

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv || { [ "$$(id -u)" = 0 ] && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null && $(PYTHON) -m venv --clear .venv; } || \
	  { echo "no virtual environment could be made: install python3-venv (apt-get install python3-venv) and try again"; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/gridtide demo $(ARGS)

test: $(STAMP) browser lint
	$(BIN)/python -m pytest -q tests/unit/test_guard_branches.py tests/property/test_guard.py \
	  --cov=gridtide.control.guard --cov-branch --cov-fail-under=100 --cov-report=term-missing
	$(BIN)/python -m pytest -n 2 --dist loadgroup -q tests

# Branches of the whole that tests take, 90 % at least. What runs in processes of its own is not seen: benches, kills.
coverage: $(STAMP) browser
	$(BIN)/python -m pytest -n 2 --dist loadgroup -q -m "not again" tests --ignore tests/live/test_bench_ocpp.py \
	  --ignore tests/live/test_csms_kill.py --ignore tests/live/test_store_kill.py --cov --cov-report=term:skip-covered \
	  --cov-fail-under=90

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 -q tests --ignore tests/live

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python bench/allocate.py
	$(BIN)/python bench/guard.py
	$(BIN)/python bench/twin.py
	$(BIN)/python bench/peak_rules.py
	$(BIN)/python bench/plan.py
	$(BIN)/python bench/csms.py --quick
	$(BIN)/python bench/storm.py --quick
	$(BIN)/python bench/fleet_command.py --quick
	$(BIN)/python bench/logins.py --quick

# A million hostile inputs into every parser; 20,000 each are part of the tests. One: make fuzz ARGS='--parser frame'.
fuzz: $(STAMP)
	$(BIN)/python -m tools.fuzz $(ARGS)

# A thousand kill -9 under load within 40 minutes; 30 are part of the tests. Fewer: make kill-test ARGS='--points 100'.
kill-test: $(STAMP)
	$(BIN)/python bench/kill.py --points 1000 --within 2400 $(ARGS)

# Seven simulated days of a whole site, about an hour: memory must not grow. Forty minutes are part of the tests.
soak: $(STAMP)
	$(BIN)/python -m tools.soak $(ARGS)

# 10^7 random states of one EVSE each through the guard, checked against a hidden truth; 20,000 are part of the tests.
fuzz-guard: $(STAMP)
	$(BIN)/python -m tools.fuzz_guard $(ARGS)

# Small faults planted in the guard and the demand clock, one at a time: at least 95 % must be noticed (docs/mutation.md).
$(MUTATION)/.installed: $(STAMP) tools/mutation-requirements.txt
	rm -rf $(MUTATION)
	$(BIN)/python -m pip install --quiet --require-hashes --target $(MUTATION)/packages -r tools/mutation-requirements.txt
	@touch $@

mutate: $(MUTATION)/.installed
	$(BIN)/python tools/mutate.py $(ARGS)

# Peers with pins of their own, each in an environment of its own: bills against NREL PySAM, wear against BLAST-Lite, plans against cvxpy and pyomo.
.venv/%/.installed: tools/%-requirements.txt $(STAMP)
	rm -rf .venv/$*
	$(PYTHON) -m venv .venv/$*
	.venv/$*/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

pysam: .venv/pysam/.installed
	$(BIN)/python -m tools.pysam_bills $(ARGS)

blast-wear: .venv/blast/.installed
	.venv/blast/bin/python tools/blast_wear.py $(ARGS)

plan-peers: .venv/planners/.installed
	PYTHONPATH=src .venv/planners/bin/python bench/plan.py $(ARGS)

# The whole program on virtual time under random faults, every invariant at every tick (docs/verify.md). Fewer: SEEDS=10 HOURS=0.5.
verify: $(STAMP)
	$(BIN)/gridtide verify --seeds $(or $(SEEDS),100) --hours $(or $(HOURS),1) $(ARGS)

# Every two faults that can happen together, on 5 sites each; NIGHTLY=1: on 20.
verify-pairs: $(STAMP)
	$(BIN)/gridtide verify --pairs --seeds $(or $(SEEDS),$(if $(NIGHTLY),20,5)) $(ARGS)

# docs/safety-case.md from a campaign, a sample of the pairs and the named tests. All pairs: EVERY=1; without the tests: TESTS=0.
safety-case: $(STAMP)
	$(BIN)/python -m tools.safety_case --seeds $(or $(SEEDS),10) --hours $(or $(HOURS),1) --every $(or $(EVERY),5) \
	  --pair-seeds $(or $(PAIR_SEEDS),1) $(if $(filter 0,$(TESTS)),,--run-tests) $(ARGS)

docs: $(STAMP)
	$(BIN)/python tools/render_docs.py

# The page is tested in Debian's headless Chromium; where it cannot be installed those tests skip and say why.
browser:
	@command -v chromium >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null; } || \
	  echo "chromium is not installed and cannot be: the browser tests will skip"

lock:
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
	  --no-annotate --no-header pyproject.toml tools/build-requirements.in -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --constraint requirements.lock tools/mutation-requirements.in -o tools/mutation-requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --extra fleet \
	  --constraint requirements.lock pyproject.toml tools/planners-requirements.in -o tools/planners-requirements.txt
	for peer in pysam blast; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --no-header tools/$$peer-requirements.in -o tools/$$peer-requirements.txt || exit 1; done

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
