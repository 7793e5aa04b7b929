# Run as root on a Debian machine; everything that is missing is installed. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
VMS := python3 molecule/vms
DEMO := build/vms/demo
# The releases each scenario is run on.
SYSTEMS := bookworm trixie
S := default

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export UV_SYSTEM_CERTS := 1
export UV_NO_CONFIG := 1
export UV_PYTHON_DOWNLOADS := never
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help:
	@echo 'make demo        boot a campus of VMs, install the service there, print URL and accounts; CVMFS=real for sft.cern.ch'
	@echo 'make demo-stop   remove the demo'
	@echo 'make doctor      say what of the demo is broken, and what to do'
	@echo 'make test        everything CI does'
	@echo 'make lint        check style and types'
	@echo 'make unit        offline and package tests'
	@echo 'make scenario    tests in VMs; S=hub takes one scenario, OS=trixie one release'
	@echo 'make bench       measure; writes build/bench.json'
	@echo 'make faults      break what can break, and see what is left; writes build/faults.json; TRIES=1 tries each once'
	@echo 'make pages       build what browsers are given from its sources in files/jupyter-xpra'
	@echo 'make venv        only Ansible and the other tools, for a control node without VMs'
	@echo 'make lock        compile the pinned versions anew from pyproject.toml'

# -- what the control node needs --------------------------------------------------------------------------------------

PACKAGES := python3 python3-venv openssh-client git age chromium fonts-dejavu-core fonts-noto-core \
    xpra python3-pil libjs-jquery xvfb xauth xterm openbox x11-utils x11-xserver-utils xkb-data iproute2 \
    libxkbcommon0 gir1.2-gtk-3.0 python3-gi python3-pyqt5

.PHONY: packages
packages:
	@missing=$$(for package in $(PACKAGES) $$($(VMS) packages); do \
	    dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ $$(id -u) != 0 ]; then echo "Missing Debian packages. As root: apt-get install" $$missing >&2; exit 1; fi; \
	echo "Installing Debian packages:" $$missing; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

$(VENV)/installed: files/requirements/uv.txt files/requirements/control.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed.' >&2; exit 1; }
	@echo 'Installing the tools into $(VENV) (about a minute) …'
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r files/requirements/uv.txt
	@$(VENV)/bin/uv pip sync --quiet --require-hashes --python $(PYTHON) files/requirements/control.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/installed

.PHONY: tools
tools: packages
	@$(MAKE) --no-print-directory venv

# What browsers are given is committed as it was built: neither a control node nor a server has to build it.
PAGES := files/jupyter-xpra

$(PAGES)/node_modules/.package-lock.json: $(PAGES)/package-lock.json $(VENV)/installed
	@cd $(PAGES) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

.PHONY: pages
pages: tools $(PAGES)/node_modules/.package-lock.json
	@cd $(PAGES) && npm run --silent build

# -- demo -------------------------------------------------------------------------------------------------------------

# CVMFS=real takes CernVM's client and sft.cern.ch in place of what the campus offers.
.PHONY: demo
demo: tools
	$(VMS) up --spec molecule/shared/demo_vms.json --state $(DEMO)
	ansible-playbook -i inventories/demo molecule/shared/campus.yml
	ansible-playbook -i inventories/demo site.yml $(if $(filter real,$(CVMFS)),-e @molecule/shared/vars/cvmfs_real.yml)
	ansible-playbook -i inventories/demo molecule/shared/demo.yml
	@$(PYTHON) molecule/shared/show_demo.py build/demo.json

.PHONY: demo-stop
demo-stop:
	$(VMS) down --state $(DEMO)
	@rm -rf build/demo.json build/demo-ca.pem build/campus/demo

# A session is started there, too: nobody is disturbed.
.PHONY: doctor
doctor: venv
	ansible-playbook -i inventories/demo playbooks/doctor.yml -e doctor_spawn=true

# -- tests ------------------------------------------------------------------------------------------------------------

.PHONY: test
test: lint unit
	@$(MAKE) --no-print-directory scenario

.PHONY: lint
lint: tools $(PAGES)/node_modules/.package-lock.json
	ruff check .
	ruff format --check .
	mypy
	yamllint --strict .
	ansible-lint --offline
	cd $(PAGES) && npm run --silent check

.PHONY: unit
unit: tools
	pytest --numprocesses=auto --dist=loadfile

# The releases side by side: each VM has one processor. What failed is said at the end, where it is looked for.
.PHONY: scenario
scenario: tools
	@$(MAKE) --no-print-directory --jobs=2 --keep-going $(patsubst %,scenario-$(S)-%,$(or $(OS),$(SYSTEMS))) || { \
	for os in $(or $(OS),$(SYSTEMS)); do \
	    echo "-- $$os: what failed, from build/$(S)-$$os.log"; \
	    sed 's/\x1b\[[0-9;]*m//g; s/^ *│ //' build/$(S)-$$os.log | grep -E '^(E  |FAILED|ERROR|\[ERROR|fatal|failed)' | \
	        cut -c -400 | tail -n 40 || echo nothing; \
	done >&2; exit 1; }

.PHONY: scenario-%
scenario-$(S)-%:
	@export OS=$* CYGNET_STATE=$(CURDIR)/build/vms/$(S)-$* DISPLAYS=$(if $(filter bookworm,$*),xpra,sessions); \
	export MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/build/molecule/$(S)-$*; \
	mkdir -p $$MOLECULE_EPHEMERAL_DIRECTORY; \
	export COLUMNS=200; \
	molecule test -s $(S) 2>&1 | tee $(CURDIR)/build/$(S)-$*.log | sed -u 's/^/[$(S) $*] /'

# -- measuring ---------------------------------------------------------------------------------------------------------

# KEEP=1 keeps the VM; BENCH='--first-runs=0' then measures in it what comes after the first deployment.
.PHONY: bench
bench: tools
	@$(PYTHON) molecule/bench/bench.py $(BENCH)

# Hours, as each fault strikes several times. OS=trixie for the other release.
.PHONY: faults
faults:
	@$(MAKE) --no-print-directory scenario S=faults OS=$(or $(OS),bookworm)

# -- maintenance ------------------------------------------------------------------------------------------------------

# rfc3987-syntax builds a grammar for a second and a half whenever it is imported, which jsonschema does where it is
# installed, to check addresses that are IRIs. Jupyter has none; without it each session and the hub start so much sooner.
.PHONY: lock
lock: tools
	for group in uv control jupyterhub chp jupyterlab; do \
	    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	        --no-emit-package rfc3987-syntax --no-emit-package lark \
	        --group pyproject.toml:$$group --output-file files/requirements/$$group.txt $(LOCK); done
	for group in LCG_106 LCG_107; do \
	    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	        --group pyproject.toml:$$group --output-file molecule/shared/campus/views/$$group.txt $(LOCK); done
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --constraint files/requirements/jupyterlab.txt \
	    --group pyproject.toml:peer --output-file molecule/bench/peer.txt $(LOCK)
	for directory in roles/chp/files $(PAGES); do \
	    (cd $$directory && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund); done
