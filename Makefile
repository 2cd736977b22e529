# Everything runs in .venv, made by the first command and made again when the dependencies change.
PYTHON ?= python3

demo: .venv/ready ; .venv/bin/dreambooth demo
test: .venv/ready ; .venv/bin/pytest
check: .venv/ready ; .venv/bin/ruff format --check && .venv/bin/ruff check && .venv/bin/mypy
fix: .venv/ready ; .venv/bin/ruff check --fix ; .venv/bin/ruff format

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -c constraints.txt -e ".[dev]"
	touch $@

.PHONY: demo test check fix
