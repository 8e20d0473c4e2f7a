# make install | demo | test | check | bench | docs | clean; each does first what it needs.
# Variables: PYTHON=python3.12 (for the environment), PYTEST_ARGS="-x tests/data", DEMO_ARGS="--seeds 1",
#            BENCHMARKS=benchmarks/bench_taps.py.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test check format bench docs clean rebuild

# What the caller's shell has active must not leak into this environment.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER
# Without compiled files every start of Python compiles all of PyTorch's interface anew: 10 s instead of 3.
unexport PYTHONDONTWRITEBYTECODE
unexport UV_PYTHON UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE PIP_CONSTRAINT

bin := .venv/bin
stamp := .venv/.installed
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCHMARKS ?= benchmarks/bench_*.py benchmarks/peers/bench_*.py
peers := .bench/bin/python
peers_stamp := .bench/.installed

# The stamp holds the checkout's path: an environment that was copied or moved, or whose Python is gone,
# points elsewhere and is made again.
ifneq ($(shell $(bin)/python -c "import os, pathlib; print(pathlib.Path('$(stamp)').read_text() == os.getcwd())" 2>/dev/null),True)
$(stamp): rebuild
endif

help:
	@sed -n '1,3s/^# //p' Makefile

install: $(stamp)

rebuild:
	@rm -rf .venv

$(stamp): pyproject.toml constraints.txt
	@test -x $(bin)/python || sh -c "$$make_environment"
	@echo "Installing into .venv (a few minutes and about 6 GB the first time, most of it PyTorch)"
	@{ $(bin)/python -m pip install -qq --constraint constraints.txt uv \
	    && $(bin)/uv pip install --quiet --python $(bin)/python --constraint constraints.txt \
	       --build-constraint constraints.txt --editable '.[dev]'; } \
	  || { echo "uv could not install; trying pip"; \
	       $(bin)/python -m pip install --constraint constraints.txt --editable '.[dev]'; }
	@$(bin)/python -c "import os, pathlib; pathlib.Path('$(stamp)').write_text(os.getcwd())"

# A Python of 3.11 or newer, then a virtual environment with pip; Debian may ship either half separately.
define make_environment
set -u
for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do
  $$python -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1 || continue
  found=$$python
  rm -rf .venv
  $$python -m venv .venv >/dev/null 2>&1 && exit 0
  rm -rf .venv
  $$python -m venv --without-pip .venv >/dev/null 2>&1 \
    && $$python -m pip --python .venv/bin/python install --quiet pip >/dev/null 2>&1 && exit 0
done
rm -rf .venv
if [ -n "$${found:-}" ]; then
  echo "$$found cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)." >&2
else
  echo "Limbeck needs Python 3.11 or newer; tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3)." \
       "Install one, or name it: make PYTHON=/path/to/python3" >&2
fi
exit 1
endef
$(stamp): export make_environment := $(make_environment)

demo: $(stamp)
	@$(bin)/limbeck demo $(DEMO_ARGS)

# Offline: whatever would reach for a model hub fails at once instead of waiting.
test: $(stamp)
	@HF_HUB_OFFLINE=1 $(bin)/python -m pytest $(PYTEST_ARGS)

check: $(stamp)
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/mypy

format: $(stamp)
	@$(bin)/ruff format .
	@$(bin)/ruff check --fix .

# Every benchmark writes benchmarks/results/<name>.json and prints it as a table.
bench: $(peers_stamp)
	@for file in $(BENCHMARKS); do $(peers) "$$file" || exit 1; done

# The libraries that Limbeck is compared with stand in an environment of their own, which sees all of .venv:
# so they run on the same PyTorch, and nothing large is installed twice. Hence without their dependencies,
# which are all there.
$(peers_stamp): $(stamp) benchmarks/peers/constraints.txt
	@rm -rf .bench
	@$(bin)/python -m venv --without-pip .bench
	@$(bin)/python -c "$$share_environment"
	@$(bin)/uv pip install --quiet --python $(peers) --no-deps --requirement benchmarks/peers/constraints.txt \
	  || { echo "uv could not install; trying pip"; \
	       $(bin)/python -m pip --python $(peers) install --no-deps --requirement benchmarks/peers/constraints.txt; }
	@touch $@

# addsitedir, and not the bare path: what .venv has installed as editable is a .pth file there.
define share_environment
import pathlib, sysconfig
venv, bench = (pathlib.Path(sysconfig.get_path("purelib", "venv", {"base": str(pathlib.Path(name).resolve())}))
               for name in (".venv", ".bench"))
(bench / "venv.pth").write_text(f"import site; site.addsitedir({str(venv)!r})\n")
endef
$(peers_stamp): export share_environment := $(share_environment)

# The pages are Markdown in docs/; every example in them is run, then the site is built. A broken link, a
# missing anchor or a page that the navigation leaves out ends it. The variable silences a notice that
# Material has a successor.
docs: $(stamp)
	@HF_HUB_OFFLINE=1 $(bin)/python -m pytest tests/docs $(PYTEST_ARGS)
	@NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict
	@echo "The pages are built: open site/index.html"

# Finished runs (runs/) are results, not leftovers: they stay.
clean:
	rm -rf .venv .bench build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
