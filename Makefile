# Set-up is two commands: `make demo` shows the main job on sample data, `make test` runs the whole suite.
PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip
DEMO   := demo-run

# Two torch processes on the same cores would spin while they wait for each other.
export OMP_WAIT_POLICY := passive
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test check starter clean

demo: $(VENV)/installed
	@rm -rf $(DEMO)
	$(VENV)/bin/luthier run examples/demo/tickets.jsonl --config examples/demo/tickets.yaml --out $(DEMO)

test: $(VENV)/installed-test check
	$(VENV)/bin/pytest

check: $(VENV)/installed-test
	$(VENV)/bin/lint-imports
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright

# Reproduce the starter from a folder of JSONL files; hours of work, goes on where it was stopped.
starter: $(VENV)/installed
	@test -n "$(CORPUS)" || { echo "make starter CORPUS=DIR: the folder with the corpus is missing"; exit 2; }
	test -e build/starter/train.jsonl || \
	  $(VENV)/bin/python -m luthier.starter.recipe "$(CORPUS)" build/starter --tokens 16000000 --share 0.45 --seed 1
	if test -e build/starter/run/config.yaml; then $(VENV)/bin/luthier resume build/starter/run; \
	else $(VENV)/bin/luthier train examples/starter.yaml --out build/starter/run; fi
	cd build/starter/run/package && cp config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json chat_template.jinja \
	  "$(CURDIR)/src/luthier/starter/model/"

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
