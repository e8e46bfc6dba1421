# The front door. `make help` lists the targets.
PYTHON ?= python3.11
VENV   ?= .venv
RES    ?=
DATA   ?=
PRESET ?=
KIMG   ?=
OUT    ?= runs
GPUS   ?=
ARGS   ?=
CHECKPOINT ?=
MINUTES ?=
CLASS  ?=
SCAN   ?=

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
RUFF  := --line-length 120 --target-version py311 --select E,F,W,I,B,UP,SIM,D1,D209,D300,D403 --ignore D107,D105
# --out is given only where OUT was: every command has a folder of its own choice.
COMMON = $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(filter file,$(origin OUT)),,--out "$(OUT)")
PATHS := dnnlib torch_utils stylegan_oct tools tests benchmarks

.PHONY: help install train adapt walk atlas project directions neighbours evaluate export test test-gpu lint kernels bench bench-gpu gpu-report clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorboard,dev,loaders]'
	@touch $@

install: $(READY)  ## Make the virtual environment and install everything that is needed.

train: $(READY)  ## Train a generator (RES=256|512, DATA=folder or zip, PRESET, KIMG, GPUS, OUT, ARGS).
	@$(BIN)/python -m tools train --outdir "$(OUT)" --processes $(or $(GPUS),0) \
	    $(if $(RES),--resolution $(RES)) $(if $(DATA),--data "$(DATA)") $(if $(PRESET),--preset $(PRESET)) \
	    $(if $(KIMG),--kimg $(KIMG)) $(ARGS)

adapt: $(READY)  ## Adapt a generator to a few scans of your own, and judge it (DATA=folder, CHECKPOINT, KIMG, OUT, ARGS).
	@$(BIN)/python -m tools train --preset adapt --outdir "$(OUT)/adapt" --processes $(or $(GPUS),0) --data "$(DATA)" \
	    $(if $(CHECKPOINT),--start-from "$(CHECKPOINT)") $(if $(KIMG),--kimg $(KIMG)) $(ARGS)
	@$(BIN)/python -m tools evaluate -c "$(OUT)/adapt" --against $(or $(CHECKPOINT),demo256) --out out/adapt \
	    --count 1000 --only fidelity,memorisation,consistency --weights oct=stylegan_oct/demo/demo256/detector.safetensors

walk: $(READY)  ## Film a walk through the latent space (CHECKPOINT, CLASS, OUT, ARGS="--classes NORMAL,DRUSEN").
	@$(BIN)/python -m tools walk $(COMMON) $(if $(CLASS),--class $(CLASS)) $(ARGS)

$(VENV)/.atlas: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[atlas]'
	@touch $@

atlas: $(READY) $(if $(findstring pca,$(ARGS)),,$(VENV)/.atlas)  ## Lay synthetic pictures out on maps (CHECKPOINT, OUT, ARGS="--method pca" needs no umap).
	@$(BIN)/python -m tools atlas $(COMMON) $(ARGS)

project: $(READY)  ## Find the latents of a scan, and what they lose (SCAN=file or folder, CHECKPOINT, CLASS, OUT, ARGS="--space pti").
	@$(BIN)/python -m tools project $(COMMON) $(if $(CLASS),--class $(CLASS)) $(ARGS) $(if $(SCAN),"$(SCAN)")

directions: $(READY)  ## Find what changes thickness, drusen, fluid (CHECKPOINT, CLASS, OUT, ARGS="--orthogonal-to class").
	@$(BIN)/python -m tools directions $(COMMON) $(if $(CLASS),--class $(CLASS)) $(ARGS)

neighbours: $(READY)  ## Find the synthetic scans nearest to a scan (SCAN=file or folder, CHECKPOINT, OUT, ARGS="--training data/scans.zip").
	@$(BIN)/python -m tools neighbours $(COMMON) $(ARGS) $(if $(SCAN),"$(SCAN)")

export: $(READY)  ## Export synthetic scans with manifest, marks and a card (CHECKPOINT, OUT, ARGS="--per-class 2000 --psi 0.8").
	@$(BIN)/python -m tools export $(COMMON) $(ARGS)

evaluate: $(READY)  ## Measure a generator beside real scans (CHECKPOINT, DATA, OUT, ARGS="--only fidelity").
	@$(BIN)/python -m tools evaluate $(COMMON) $(if $(DATA),--data "$(DATA)") $(ARGS)

test: $(READY)  ## Run the tests, in a process a core.
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

lint: $(READY)  ## Check style, types and the direction of imports.
	$(BIN)/ruff check $(RUFF) --per-file-ignores 'tests/**:D,benchmarks/**:D' $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports

test-gpu: $(READY)  ## Run the tests that need a GPU, some minutes (ARGS="-m gpu" the slow ones too).
	$(BIN)/python -m pytest -m "gpu and not slow" --numprocesses 4 --dist loadfile $(ARGS)

gpu-report:  ## All that a GPU tells in a few minutes, without installing (MINUTES, OUT, PYTHON if there is no .venv).
	@$(if $(wildcard $(READY)),$(BIN)/python,$(if $(filter file,$(origin PYTHON)),python3,$(PYTHON))) \
	    -m benchmarks.gpu_report $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(filter file,$(origin OUT)),,--out "$(OUT)") $(ARGS)

bench-gpu: $(READY)  ## Measure the CUDA kernels, a step at 256 and 512 px, and every lever of the trainer; half an hour.
	$(BIN)/python -m benchmarks.kernels --resolution 256 --batch 32
	$(BIN)/python -m benchmarks.kernels --resolution 512 --batch 16
	$(BIN)/python -m benchmarks.levers table
	$(BIN)/python -m benchmarks.levers $(ARGS)

kernels: $(READY)  ## Compile the CUDA kernels with nvcc for the GPUs of today (ARGS="--architectures 90"); optional.
	$(BIN)/python -m torch_utils.ops.prebuild $(ARGS)

bench: $(READY)  ## Measure a training step, the augmentations and the phantom; minutes.
	$(BIN)/python -m benchmarks.step $(ARGS)
	$(BIN)/python -m benchmarks.augment
	$(BIN)/python -m benchmarks.phantom_speed

clean:  ## Remove the virtual environment and the caches; data/ and runs/ stay.
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
