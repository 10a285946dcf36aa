# Needs Python 3.11 or newer, make, and pip's package index. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest

DATA := ../shared/data
MODEL := out/model

# What computes: these must hold in the arithmetic of any CPU.
NUMERIC := $(addprefix tests/unit/,checkpoints/test_checkpoint.py evaluation/test_evaluator.py inference model training)

.PHONY: help setup demo model model-data test test-avx2 test-slow test-faults test-oldest test-gpu docs lint format clean

help:
	@echo "make setup        install into $(VENV)"
	@echo "make demo         summarize the sample corpus into out/demo"
	@echo "make test         all tests that need no GPU, but the slow ones"
	@echo "make test-avx2    those that compute, as on a CPU without AVX-512 and bfloat16"
	@echo "make test-slow    the slow ones: kills, big files"
	@echo "make test-faults  kills at each step, object storage that breaks, full disks, hostile files"
	@echo "make test-gpu     what differs on a GPU"
	@echo "make test-oldest  the library, the main job and S3 with the oldest versions that pyproject.toml claims"
	@echo "make model        train the models that ship, from DATA ($(DATA)), in thirteen steps"
	@echo "make docs         write jobs/docs/configuration.md from the code"
	@echo "make lint         ruff and mypy"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/bertsum summarize tests/data/corpus out/demo --set summarizer.language_column=lang --show 16

test: setup
	$(BIN)/python -m pytest -m "not slow and not faults and not gpu"

test-avx2: setup
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
	    $(BIN)/python -m pytest -m "not slow and not faults and not gpu" $(NUMERIC)

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not faults and not gpu"

test-faults: setup
	$(BIN)/python -m pytest -m "faults and not gpu"

# On a machine without pip's index, with a Python that has what is needed: make test-gpu GPU_PYTHON=python3
test-gpu: $(if $(GPU_PYTHON),,setup)
	$(or $(GPU_PYTHON),$(BIN)/python) -m pytest -m gpu tests/gpu

test-oldest: setup
	$(PYTHON) -m venv $(OLDEST)
	$(BIN)/python tests/oldest_versions.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[dev]'
	$(OLDEST)/bin/python -m pytest -m "not slow and not faults and not gpu" tests/unit tests/jobs/test_summarize.py
	$(OLDEST)/bin/python -m pytest tests/faults/test_object_store.py -k "makes_an_object or writers or configuration or node"

# A step that is finished is not done again, and one that was killed goes on. `make model -j2 CPUS=1` trains both members
# at once, each on one thread.
ENGLISH := english_1 english_2 english_3 english_4 english_5 english_6 english_7 english_8
MULTILINGUAL := multilingual_1 multilingual_2 multilingual_3 multilingual_4 multilingual_5
STEPS := $(ENGLISH) $(MULTILINGUAL)
.PHONY: $(STEPS)
MEMBER_FILES := config.json model.safetensors model_card.md

model: $(lastword $(ENGLISH)) $(lastword $(MULTILINGUAL))
	mkdir -p $(MODEL)/family/english $(MODEL)/family/multilingual
	cp $(addprefix $(MODEL)/$(lastword $(ENGLISH))/,$(MEMBER_FILES)) $(MODEL)/family/english
	cp $(addprefix $(MODEL)/$(lastword $(MULTILINGUAL))/,$(MEMBER_FILES)) $(MODEL)/family/multilingual
	cp bertsum/model_default/family.json $(MODEL)/family
	rm -rf $(MODEL)/vectors

# each begins with what the one before has learned
english_2: english_1
english_3: english_2
english_4: english_3
english_5: english_4
english_6: english_5
english_7: english_6
english_8: english_7
multilingual_2: multilingual_1
multilingual_3: multilingual_2
multilingual_4: multilingual_3
multilingual_5: multilingual_4
$(STEPS): model-data
	$(BIN)/bertsum train jobs/configs/$@.yaml $(MODEL)/$@ --set data_root=$(MODEL)/data --set vectors_uri=$(MODEL)/vectors \
	    $(addprefix --set start_from=$(MODEL)/,$(filter $(STEPS),$^)) $(addprefix --set resources.num_cpus=,$(CPUS))

model-data: setup
	mkdir -p $(MODEL)/data
	ln -sfn $(abspath $(DATA))/* $(MODEL)/data
	$(BIN)/python -m jobs.learning.short_texts $(MODEL)/data/short_texts
	$(BIN)/python -m jobs.learning.question_pairs $(MODEL)/data/question_pairs

docs: setup
	$(BIN)/python tests/helpers/configuration_page.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(OLDEST) out
