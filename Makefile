# Two commands do everything on a fresh clone: `make up` and `make test`. Needs Python 3.11, 3.12 or 3.13 and nothing else.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ROWS ?= R4 R5 R6 R7
BASE_URL ?= http://127.0.0.1:$(or $(PORT),8080)

.PHONY: up test check smoke bench chaos fmt lock matrix messages openapi clean

up: $(VENV)/.local ## a running system with demo data (PORT=8080)
	@$(BIN)/python manage.py up

test: $(VENV)/.dev ## the whole suite
	$(BIN)/pytest

check: $(VENV)/.dev ## everything that is checked without running the product
	@sh scripts/check.sh

smoke: $(VENV)/.local ## walks the main job against a running installation (BASE_URL=)
	@$(BIN)/python -m tests.smoke --base-url $(BASE_URL)

bench: $(VENV)/.dev ## the speed, as ratios to a bare server over the same tables
	$(BIN)/python -m bench $(ARGS)

chaos: $(VENV)/.dev ## kills parts under load: make chaos ROWS="R4"
	@$(BIN)/python -m tests.chaos $(ROWS)

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

matrix: ## fresh clone, `make test`, on Python 3.12 and 3.13
	@sh scripts/matrix.sh

messages: $(VENV)/.dev ## collects and compiles the texts
	$(BIN)/python manage.py makemessages -l ru --no-wrap --no-location --ignore '.venv/*' --ignore '.local/*'
	$(BIN)/python manage.py compilemessages -v 0 --ignore '.venv/*'

openapi: $(VENV)/.dev ## writes docs/api/ from the code
	$(BIN)/python manage.py spectacular --custom-settings crm2.openapi.NATIVE --validate --fail-on-warn --file docs/api/openapi.yaml
	$(BIN)/python manage.py spectacular --custom-settings crm2.openapi.GATEWAY --validate --fail-on-warn --file docs/api/gateway.yaml

lock: $(VENV)/.dev ## requirements*.txt from requirements*.in
	for set in requirements requirements-local requirements-dev; do \
		$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --quiet --no-emit-index-url \
			--no-emit-find-links --custom-compile-command "make lock" $$set.in -o $$set.txt || exit 1; done

clean: ## removes the environment and the local data
	rm -rf $(VENV) .local

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local: requirements.txt requirements-local.txt | $(VENV)/bin/python
	@echo "Installing…"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-local.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.local
	@echo "Installing tools…"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-local.txt -r requirements-dev.txt
	@touch $@
