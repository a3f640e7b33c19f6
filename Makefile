# Set-up is two commands: `make demo` shows the main job on sample data, `make test` runs the whole suite.
PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip
DEMO   := demo-run
# Tests run beside each other, a file of them at a time; none needs more than one core.
WORKERS ?= 2

# Two torch processes on the same cores would spin while they wait for each other.
export OMP_WAIT_POLICY := passive
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test nightly check starter clean

demo: $(VENV)/installed
	@rm -rf $(DEMO)
	$(VENV)/bin/luthier run examples/demo/tickets.jsonl --config examples/demo/tickets.yaml --out $(DEMO)

test: $(VENV)/installed-test check
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What takes too long for every change: the marked tests, and the storms of tests/nightly.
nightly: $(VENV)/installed-test
	$(VENV)/bin/pytest -m nightly
	$(VENV)/bin/pytest -m "nightly or not nightly" tests/nightly/*.py

check: $(VENV)/installed-test
	$(VENV)/bin/lint-imports
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright

define pretrain
	if test -e build/starter/run-$(1)/config.yaml; then $(VENV)/bin/luthier resume build/starter/run-$(1); \
	else $(VENV)/bin/luthier train $(SETTINGS) $(2) --set data.path=build/starter/$(1)/train.jsonl \
	  --set data.validation=build/starter/$(1)/heldout.jsonl --out build/starter/run-$(1); fi
endef

# Reproduce the starter from a folder of JSONL files: first it learns to copy, then everything. Hours of work on a CPU, minutes on a GPU
# (GPU=1, as the one that ships was made); goes on where it was stopped.
TOKENS   ?= $(if $(GPU),64000000,30000000)
SETTINGS := $(if $(GPU),examples/starter-gpu.yaml,examples/starter.yaml)
COPYING  ?= --set train.steps=700
RECIPE   := $(VENV)/bin/python -m luthier.starter.recipe
starter: $(VENV)/installed
	@test -n "$(CORPUS)" || { echo "make starter CORPUS=DIR: the folder with the corpus is missing"; exit 2; }
	test -e build/starter/mixture/train.jsonl || \
	  $(RECIPE) "$(CORPUS)" build/starter/mixture --tokens $(TOKENS) --share 0.5 --seed 4
	test -e build/starter/copying/train.jsonl || \
	  $(RECIPE) "$(CORPUS)" build/starter/copying --tokens 1500000 --share 1 --seed 5 --only echo --tokenizer build/starter/mixture/tokenizer
	$(call pretrain,copying,--set train.lr=0.001 --set train.batch_tokens=2048 --set train.schedule=constant --set train.decay=0.2 $(COPYING))
	$(call pretrain,mixture,--set train.warm_from=$$(ls -d build/starter/run-copying/checkpoints/0* | tail -1))
	cd build/starter/run-mixture/package && cp config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json \
	  chat_template.jinja "$(CURDIR)/src/luthier/starter/model/"

clean:
	rm -rf $(VENV) $(DEMO) build dist

# torch first and by itself: the pinned version must be there before anything else asks for one.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install -q -c constraints.txt -e ".[test]"
	@touch $@
