# Everything is set up in .venv on demand; stamp files make a second run cost nothing.
#   make demo    three regions on this machine, one limit
#   make test    the quick tests, 3 minutes (installs redis-server, and fetches promtool, nats-server and
#                nginx, when they are missing and nobody's password is needed; without one its tests are skipped)
#   make check   all the other tests, properties with more examples, and beside them bugs planted in the code,
#                which the tests must find: a fortieth, another one at each commit (ONE_IN=1: all, an hour)
#   make suite   both at once: the tests are collected once, and no processor waits between
#   make chromium  a browser from Debian, for the test of the console (without one it is skipped)
#   make busy    the tests of real processes ten times, beside loops that keep every processor busy (RUNS=n)
#   make bench   speed, memory and accuracy against the other limiters: a short pass, under 5 minutes
#   make bench-report  the same properly, and docs/benchmarks.md from it (half an hour; NAMES="take merge")
#   make bench-page    docs/benchmarks.md again, from the results that are kept
#   make soak    a million seeds of the fault simulator (fourteen hours on two processors; SEEDS=n for fewer),
#                after processes that share a table were killed at random and at every instruction (KILLS=n),
#                and every way to run a limiter met every event in a process' life (MINUTES=n). What it prints
#                says how to go on with the seeds that are left
#   make chaos   real Redis servers fail under load, and five real nodes without one; every token is accounted
#                for (CALLS=n; HISTORIES=n of CHAOS_SECONDS=n: 20 of two minutes are 40 minutes)
#   make endurance  five real nodes for an hour (HOURS=n): memory, descriptors, and levels at each pause
#   make fuzz    random bytes against everything that reads bytes from outside, and libFuzzer on the core
#                (MINUTES=n, 5 without; installs clang, CLANG=no does without)
#   make mutants  mutmut changes the rules of the controller, the settling, the mesh and roll-outs in every
#                way, and their own tests must notice (NAMES="outage quota" for some modules)
#   make sanitized  the tests of the core with a core that watches its own memory and arithmetic
#                (NAMES="tests/mesh tests/strong" for others)
#   make aarch64  the core compiled for aarch64 and its tests run by an emulator (Debian; installs both)
#   make docs    the pages of docs/ as a site in docs/_build, warnings are errors
#   make docs-architecture  the drawing of the folders in docs/architecture.md, from the imports
#   make docs-figures  the picture and the tables of the documents (some minutes; DOC_SEEDS=n)
#   make docs-scaling  the page on scaling: growth measured again (half an hour, a quiet machine)
#   make lint    ruff, format and rules        make types   mypy --strict
# PYTHON chooses the interpreter for a new .venv (3.10 or newer).

PYTHON ?= python3
SEEDS ?= 1000000
RUNS ?= 10
KILLS ?= 2000
CALLS ?= 100000
HISTORIES ?= 20
HOURS ?= 1
CHAOS_SECONDS ?= 120
DOC_SEEDS ?= 5
NAMES ?=
CLANG ?=
PYTEST_ARGS ?=
ONE_IN ?= 40
MINUTES ?= 60
# Two more than there are processors: many tests wait for sockets and processes.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 1) + 2)

comma := ,
VENV := .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal --durations 10 $(PYTEST_ARGS)
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
C_FILES := $(wildcard crdtbucket/core/*.h crdtbucket/core/*/*.h tests/native/*.[ch])
NATIVE := setup.py $(wildcard crdtbucket/*.pyx crdtbucket/core/*.h crdtbucket/core/*/*.h crdtbucket/core/*/*.pxi)

# The suite starts hundreds of processes. Each would compile all that it imports, and every test file again,
# where the environment says that compiled modules are not kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check suite busy bench bench-report bench-page soak chaos endurance fuzz mutants sanitized aarch64 \
  docs docs-architecture docs-figures docs-scaling lint types format redis valkey nats promtool nginx chromium wrk clang clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(STAMPS)/base
	$(BIN)/crdtbucket demo

test: $(STAMPS)/dev redis nats promtool nginx
	@# In a new checkout each process would compile every test file; .ci/run does this beside the types.
	@test -e tests/core/__pycache__ || $(BIN)/pytest --collect-only -qq >/dev/null || true
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(PYTEST) -m "not slow"

# The tests $(1), and planted bugs beside them. What finds one often waits, so it has what the tests leave of the
# processors.
define beside_planted_bugs
@nice $(BIN)/python -m tests.mutations --one-in $(ONE_IN) --suite-passed >$(VENV)/planted.log 2>&1 & planted=$$!; \
$(PYTEST) $(1); status=$$?; \
wait $$planted || status=1; \
cat $(VENV)/planted.log; exit $$status
endef

check: $(STAMPS)/dev redis nats promtool nginx wrk
	$(call beside_planted_bugs,-m "slow or hypothesis")

suite: $(STAMPS)/dev redis nats promtool nginx wrk
	$(call beside_planted_bugs)

busy: $(STAMPS)/dev redis nats promtool nginx
	$(BIN)/python -m tests.busy --runs $(RUNS)

bench: $(STAMPS)/bench wrk
	$(BIN)/python -m benchmarks --quick

bench-report: $(STAMPS)/bench redis wrk
	$(BIN)/python -m benchmarks --save $(NAMES)
	$(BIN)/python -m benchmarks.document

bench-page: $(STAMPS)/bench
	$(BIN)/python -m benchmarks.document

soak: $(STAMPS)/dev
	$(BIN)/python -m tests.kills --kills $(KILLS)
	$(BIN)/python -m tests.native
	$(BIN)/python -m tests.mutations
	$(BIN)/python -m tests.compositions --minutes $(MINUTES)
	HYPOTHESIS_PROFILE=long $(BIN)/python -m tests.soak --seeds $(SEEDS)

chaos: $(STAMPS)/dev redis nats
	$(BIN)/python -m tests.chaos --calls $(CALLS)
	$(BIN)/python -m tests.histories --runs $(HISTORIES) --seconds $(CHAOS_SECONDS)

endurance: $(STAMPS)/dev
	$(BIN)/python -m tests.endurance --hours $(HOURS)

fuzz: MINUTES = 5
fuzz: $(STAMPS)/dev clang
	@$(PIP) install --only-binary :all: atheris || echo "There is no atheris for this Python: examples are changed at random."
	CLANG="$(filter-out no,$(CLANG))" $(BIN)/python -m tests.fuzz --minutes $(MINUTES) \
	  $(if $(filter no,$(CLANG)),--without-libfuzzer)

mutants: $(STAMPS)/dev
	$(PIP) install 'mutmut>=3.8'
	nice $(BIN)/python -m tests.mutants $(NAMES)

sanitized: $(STAMPS)/dev
	$(BIN)/python -m tests.native.sanitized $(NAMES)

aarch64: $(STAMPS)/dev
	@$(call installed,qemu-aarch64,There is no qemu-aarch64 and no compiler for aarch64: install qemu-user$(comma) \
	  gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.,1,qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
	$(BIN)/python -m tests.native.aarch64

docs: $(STAMPS)/dev
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

docs-architecture: $(STAMPS)/dev
	PYTHONPATH=. $(BIN)/python docs/architecture.py

docs-figures: $(STAMPS)/dev
	$(BIN)/python docs/figures.py --seeds $(DOC_SEEDS)

docs-scaling: $(STAMPS)/dev
	PYTHONPATH=. $(BIN)/python docs/scaling.py

lint: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

types: $(STAMPS)/dev
	$(BIN)/mypy

format: $(STAMPS)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(C_FILES)

# A new interpreter in .venv makes every later stamp stale.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "crdtbucket needs Python 3.10 or newer, and $(PYTHON) is not: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' || { \
	  echo "$(PYTHON) has no C headers; on Debian and Ubuntu: apt-get install python3-dev"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { \
	  echo "the core is compiled and there is no C compiler; on Debian and Ubuntu: apt-get install gcc"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# The core, compiled in place. The tools that build it are in .venv so that a rebuild is quick.
$(STAMPS)/tools: $(STAMPS)/venv pyproject.toml
	$(PIP) install 'setuptools>=77' 'Cython>=3.1' wheel
	@touch $@

$(STAMPS)/base: $(STAMPS)/tools $(NATIVE) pyproject.toml
	$(PIP) install --no-build-isolation --editable '.[cli]'
	@touch $@

# All of `base` and more: each installation compiles the core.
$(STAMPS)/dev: $(STAMPS)/tools $(NATIVE) pyproject.toml
	$(PIP) install --no-compile --no-build-isolation --editable '.[dev]'
	@# On every processor; pip has one. Some packages ship templates that are no Python, which it leaves out, too.
	@$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $(STAMPS)/base $@

$(STAMPS)/bench: $(STAMPS)/base
	$(PIP) install --no-build-isolation --editable '.[bench]'
	@touch $@

# The program of a package, or of the packages $(4), installed where that can be done without asking anybody.
define installed
if command -v $(1) >/dev/null; then exit 0; \
elif ! command -v apt-get >/dev/null; then sudo=none; \
elif [ "$$(id -u)" = 0 ]; then sudo=; \
elif sudo -n true 2>/dev/null; then sudo=sudo; \
else sudo=none; fi; \
if [ "$$sudo" = none ]; then echo "$(2)"; exit $(3); fi; \
echo "installing $(1)"; \
$$sudo apt-get update -qq && \
$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(or $(4),$(1)) >/dev/null
endef

no_redis := There is no redis-server: its tests are skipped until it is installed (or valkey with that name in PATH).

redis:
	@$(call installed,redis-server,$(no_redis),0) || echo "$(no_redis)"

no_chromium := There is no chromium: the console's test in a browser is skipped until it is installed.

chromium:
	@$(call installed,chromium,$(no_chromium),0) || echo "$(no_chromium)"

valkey:
	@$(call installed,valkey-server,There is no valkey-server: the tests of scripts run on redis-server alone.,0)

wrk:
	@$(call installed,wrk,There is no wrk$(comma) and it cannot be installed: the sidecar will not be measured.,0) || \
	echo "wrk cannot be installed: the sidecar will not be measured."

# Any clang will do that has libFuzzer, whatever its version.
clang: $(STAMPS)/dev
	@test -n "$(CLANG)" || $(BIN)/python -m tests.native.libfuzzer || { \
	$(call installed,libFuzzer,There is no clang with libFuzzer: install it$(comma) or do without: make fuzz CLANG=no,1,clang \
	  libclang-rt-$$(apt-cache depends clang | sed -n 's/ *Depends: clang-\([0-9]*\)$$/\1/p')-dev); }

# One program out of the Debian package $(2) (or $(3)), at $(4) in it: fetching needs no rights.
define fetched
if command -v $(1) >/dev/null || test -x /usr/sbin/$(1) || test -x $(BIN)/$(1); then exit 0; fi; \
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cd "$$dir" && echo "fetching $(1)" && \
	{ apt-get update -qq; apt-get download -qq $(2) || apt-get download -qq $(3); } >/dev/null 2>&1; \
	dpkg-deb --fsys-tarfile "$$dir"/*.deb 2>/dev/null | tar -x ./$(4)/$(1) 2>/dev/null; \
	mv $(4)/$(1) "$(CURDIR)/$(BIN)/$(1)" 2>/dev/null || \
	echo "There is no $(1), and none can be fetched: its tests will be skipped."
endef

promtool: $(STAMPS)/venv
	@$(call fetched,promtool,promtool,prometheus,usr/bin)

nats: $(STAMPS)/venv
	@$(call fetched,nats-server,nats-server,nats-server,usr/sbin)

nginx: $(STAMPS)/venv
	@$(call fetched,nginx,nginx,nginx-core,usr/sbin)

clean:
	rm -rf $(VENV) build dist *.egg-info crdtbucket/_core.c crdtbucket/_core.*.so
