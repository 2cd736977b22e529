# Everything runs in .venv, made by the first command and made again when the dependencies change.
PYTHON ?= python3

demo: .venv/ready ; .venv/bin/dreambooth demo
test: .venv/ready ; .venv/bin/pytest
test-oldest: .venv-oldest/ready ; .venv-oldest/bin/pytest tests/unit tests/parity
check: .venv/ready ; .venv/bin/ruff format --check && .venv/bin/ruff check && .venv/bin/mypy
fix: .venv/ready ; .venv/bin/ruff check --fix ; .venv/bin/ruff format

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -c constraints.txt -e ".[dev]"
	touch $@

# The lowest version of each direct dependency that pyproject.toml promises, and the newest of what those need.
.venv-oldest/ready: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	grep -oE '[A-Za-z_-]+>=[0-9.]+' pyproject.toml | sed 's/>=/==/' > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install -c .venv-oldest/constraints.txt -e ".[dev]"
	touch $@

.PHONY: demo test test-oldest check fix
