# The commands of the project; plain `make` explains them.
PYTHON ?= python3
VENV ?= .venv
CPU_INDEX := https://download.pytorch.org/whl/cpu

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check
ready := $(VENV)/.ready
# The suite on as many cores as there are, up to four: each process takes 1.5 GB, or 2.5 while it runs a lab.
in_parallel := -n logical --maxprocesses 4 --dist worksteal
# The other environments, of `test-lowest` and `test-newest`; the latter has one for each interpreter.
LOWEST_PYTHON ?= python3.11
lowest := $(VENV)-lowest
newest := $(VENV)-newest-$(notdir $(PYTHON))

# $(call can_make_venv,INTERPRETER): stops where an interpreter lacks the venv module, before half an environment is left.
can_make_venv = $(1) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "$(1) comes without the venv module. On Debian or Ubuntu: sudo apt install $(notdir $(1))-venv"; exit 1; }
# $(call cpu_torch,ENVIRONMENT,REQUIREMENTS): with TORCH=cpu, PyTorch from its own index and all that it needs from PyPI,
# later, with the other packages; else nothing.
cpu_torch = $(if $(filter cpu,$(TORCH)),$(1)/bin/python -m pip --disable-pip-version-check install --no-deps $(2) \
	--index-url $(CPU_INDEX),:)
# LAB, DATASET and FULL travel to the runner only where they are set; FULL=0 is the same as none. DATASET goes through the
# environment as it was typed, with its blanks, quotes and dollars, and so do the folders that a path in it can start
# from: after `make -C`, by which make puts a `w` among its flags, first that of the shell, else first the one of make.
override DATASET := $(value DATASET)
shell_first := $(findstring w,$(firstword -$(MAKEFLAGS)))
export DATASET
export CALLED_FROM := $(if $(shell_first),$(value PWD),$(CURDIR))
export CALLED_FROM_ELSE := $(if $(shell_first),$(CURDIR),$(value PWD))
dataset_options := --dataset "$$DATASET" --called-from "$$CALLED_FROM" "$$CALLED_FROM_ELSE"
lab_options = $(if $(LAB),--lab "$(LAB)") $(if $(DATASET),$(dataset_options)) \
	$(if $(filter-out 0 no false,$(FULL)),--full)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:  # half an environment would pass for a whole one
.PHONY: help labs test test-lowest test-newest venv jupyter lint links clean

help:
	@echo "make labs      run every lab in a fresh kernel; notebooks and pages go to build/labs/"
	@echo "               LAB=01 only that one; FULL=1 the full knobs; DATASET=ben-ge-800 real data,"
	@echo "               or DATASET=\"path of a folder\", from where make is called"
	@echo "make test      run the quick test suite"
	@echo "make test-lowest, make test-newest   the same with the oldest and the newest versions admitted,"
	@echo "               in $(lowest) and $(newest)"
	@echo "make jupyter   open JupyterLab on the same environment"
	@echo "make lint      check style, types and layers"
	@echo "make venv      only create $(VENV) and install into it; the other commands do so where needed"
	@echo "make links REPO=owner/name   write another public address into badges, setup cells and citation"
	@echo "make clean     remove what the commands wrote, but not data/, $(VENV)* and the runs of studies"
	@echo "TORCH=cpu      with any of them, before its environment exists: the small processor-only PyTorch"
	@echo "PYTHON=...     with any of them, before its environment exists: another interpreter than python3"
	@echo "               (make test-newest has an environment for each, make test-lowest LOWEST_PYTHON=...)"

labs: $(ready)
	@$(python) -m tools.run_labs $(lab_options)

test: $(ready)
	@$(python) -m pytest $(in_parallel)

# The suite with the oldest versions that pyproject.toml admits, and with the newest there are. The oldest NumPy has no
# wheels for Python 3.12 and later.
test-lowest: $(lowest)/.ready
	@$(lowest)/bin/python -m pytest $(in_parallel)

test-newest:
	@$(MAKE) --no-print-directory VENV=$(newest) venv
	@$(call cpu_torch,$(newest),--upgrade torch torchvision)
	@$(newest)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade --upgrade-strategy eager \
		-r requirements.txt
	@$(newest)/bin/python -m pytest $(in_parallel)

$(lowest)/.ready: pyproject.toml tools/lowest.py
	@$(LOWEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "The lowest versions need Python 3.11; say where it is: make test-lowest LOWEST_PYTHON=..."; exit 1; }
	@$(call can_make_venv,$(LOWEST_PYTHON))
	@echo "Installing the lowest versions into $(lowest): some minutes and, unless TORCH=cpu, several GB"
	@$(LOWEST_PYTHON) -m venv $(lowest)
	@$(LOWEST_PYTHON) tools/lowest.py > $(lowest)/constraints.txt
	@$(call cpu_torch,$(lowest),-c $(lowest)/constraints.txt torch torchvision)
	@$(lowest)/bin/python -m pip --disable-pip-version-check install -c $(lowest)/constraints.txt -e '.[labs,dev]'
	@touch $@

jupyter: $(ready)
	@$(python) -m jupyter lab

lint: $(ready)
	@$(python) -m ruff check .
	@$(python) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

# Needs no packages, so no environment either.
links:
	@test -n "$(REPO)" || { echo "Say which: make links REPO=owner/name"; exit 2; }
	@$(PYTHON) tools/links.py "$(REPO)"

venv: $(ready)

$(python):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not (or is missing)."; \
		echo "Install one, then say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(call can_make_venv,$(PYTHON))
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# Written last, so an interrupted installation is taken up again.
$(ready): requirements.txt pyproject.toml | $(python)
	@echo "Installing into $(VENV): some minutes and, unless TORCH=cpu, about 6 GB"
	@$(call cpu_torch,$(VENV),"torch>=2.14" torchvision)
	@$(pip) install -r requirements.txt
	@touch $@

clean:
	rm -rf build/labs build/lib build/bdist.* .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find bengelib tests tools -name __pycache__ -prune -exec rm -rf {} +
