# Every command of the project; `make` alone lists them.

SHELL   := /bin/sh
PYTHON  ?= /usr/bin/python3
VENV    ?= .venv
PORT    ?= 20202
PREFIX  ?= /usr/local
DESTDIR ?=
POLKIT  ?=

# systemd-python is built from source: hence the compiler and the headers.
PACKAGES_RUN  := python3 python3-venv python3-dev gcc libc6-dev pkg-config libsystemd-dev dbus ca-certificates \
                 systemd inetutils-telnet
PACKAGES_TEST := git systemd-container debootstrap dbus-broker dbus-user-session libpam-systemd iproute2 vagrant \
                 polkitd chromium curl gunicorn nginx uvicorn uwsgi-core uwsgi-plugin-python3 \
                 openssh-client openssh-server man-db mandoc bash zsh fish jq \
                 libglib2.0-bin libglib2.0-dev python3-gi gir1.2-glib-2.0
# The same as Build-Depends in debian/control, which dpkg-buildpackage looks at.
PACKAGES_DEB  := build-essential debhelper dh-python pybuild-plugin-pyproject python3 python3-click python3-dbus-next \
                 python3-hatchling python3-rich python3-setproctitle python3-systemd systemd

PIP      = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517
SPHINX  := --fresh-env --write-all --quiet --nitpicky --fail-on-warning --keep-going --doctree-dir build/doctrees
SYSTEM   = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' POLKIT='$(POLKIT)' PYTHON='$(PYTHON)' tools/system

.PHONY: help run test check lint man docs docs-links format bench dist deb install uninstall clean packages-run packages-test \
        packages-deb may-install all tests build benchmarks

help:
	@echo 'make run          papad in the foreground, on a message bus of its own (PORT=$(PORT))'
	@echo 'make test         every check and every test, the booted systemd included (as root)'
	@echo 'make check        ruff, its formatter, mypy (make lint is the same)'
	@echo 'make format       automatic fixes and formatting by ruff'
	@echo 'make man          regenerates docs/man from --help and the contract'
	@echo 'make docs         the documentation as a site, build/docs/index.html; warnings are errors'
	@echo 'make docs-links   checks its links to other sites'
	@echo 'make bench        papad beside its peers and the bare machine; writes docs/performance.md (an hour)'
	@echo 'make dist         a wheel and an sdist, in dist/'
	@echo 'make deb          a package for this version of Debian, in dist/'
	@echo 'make install      below PREFIX=$(PREFIX), and papa.service for systemd (as root)'
	@echo 'make uninstall    removes everything except the group papa'
	@echo 'make clean        removes the virtual environment and the caches'

run: $(VENV)/.ready-run
	@exec $(VENV)/bin/papad --bus own --port $(PORT)

test: check
	@tools/tests $(VENV)/bin/pytest

lint: check

check: $(VENV)/.ready-test
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy

man: $(VENV)/.ready-test
	$(VENV)/bin/python tools/manual.py

docs: $(VENV)/.ready-test
	@$(VENV)/bin/sphinx-build $(SPHINX) --builder html docs build/docs

docs-links: $(VENV)/.ready-test
	@$(VENV)/bin/sphinx-build $(SPHINX) --builder linkcheck docs build/docs-links

format: $(VENV)/.ready-test
	$(VENV)/bin/ruff check --quiet --fix .
	$(VENV)/bin/ruff format --quiet .

bench: $(VENV)/.ready-test
	@$(VENV)/bin/python -m benchmarks --page docs/performance.md

dist: $(VENV)/.ready-test
	$(VENV)/bin/python -m build --outdir dist .

deb: packages-deb
	@tools/deb

install: may-install packages-run
	@$(SYSTEM) install

uninstall:
	@$(SYSTEM) uninstall

# Before packages are installed: a mistake in the command is named at once.
may-install:
	@$(SYSTEM) check

# Other names that people type; some of them are folders, which make would call up to date.
all: help
tests: test
build: dist
benchmarks: bench

.DEFAULT:
	@echo "papa: there is no 'make $@'; 'make help' lists what there is" >&2; exit 2

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .vagrant
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages-run:
	@tools/debian-packages $(PACKAGES_RUN)

packages-test: packages-run
	@tools/debian-packages $(PACKAGES_TEST)

packages-deb:
	@tools/debian-packages $(PACKAGES_DEB)

# The project itself is installed in place, so only a change of what it needs is a reason to install again.
$(VENV)/.ready-run: pyproject.toml | packages-run
	@echo 'papa: installing Python packages into $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready-run | packages-test
	@echo 'papa: installing what the tests need into $(VENV)'
	@$(PIP) --editable '.[ctl,test,bench,dev]'
	@touch $@
