# The commands of the project; plain `make` explains them. They stand in tools/do.py, which works without make as well:
# `python -m tools.do labs LAB=01` is `make labs LAB=01`.
PYTHON ?= python3

# Variables go through the environment as they were typed, with their blanks, quotes and dollars, and so do the folders
# that a path in DATASET can start from: after `make -C`, by which make puts a `w` among its flags, first that of the
# shell, else first the one of make.
override DATASET := $(value DATASET)
export LAB DATASET FULL TORCH PYTHON VENV LOWEST_PYTHON REPO DOOR
flags := $(firstword -$(MAKEFLAGS))
export CALLED_FROM := $(if $(findstring w,$(flags)),$(value PWD),$(CURDIR))
export CALLED_FROM_ELSE := $(if $(findstring w,$(flags)),$(CURDIR),$(value PWD))

.DEFAULT_GOAL := help
.PHONY: help labs test test-lowest test-newest venv jupyter lint slides handouts site doors links clean

# With -n it prints what it would run. PYTHON may be one that is not there, which is for do.py to say.
help labs test test-lowest test-newest venv jupyter lint slides handouts site doors links clean:
	+@"$$(command -v python3 || command -v python || echo "$$PYTHON")" tools/do.py $(if $(findstring n,$(flags)),-n) $@
