# Two commands need no other: `make demo` and `make test` set up .venv themselves, once.
PYTHON ?= python3
BIN := .venv/bin
# A process more than cores, as many tests wait for what they started; a file's tests stay together, as they share what
# they set up, and begin in the order of tests/conftest.py.
SPREAD := -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SPREAD)
DEMO ?=
PARTS ?=
# TORCH=cpu: PyTorch without CUDA, a small part of the 6 GB that .venv takes with it.
TORCH ?=
ifeq ($(TORCH),cpu)
export PIP_EXTRA_INDEX_URL := $(PIP_EXTRA_INDEX_URL) https://download.pytorch.org/whl/cpu
endif

# Bytecode is kept: the tests start dozens of commands.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-elastic test test-gpu bench-gpu test-all test-lowest test-system test-slurm test-ray lint bench bench-extra docs clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Spikefront needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing PyTorch $(if $(filter cpu,$(TORCH)),(without CUDA) ,)and the rest into .venv, once: minutes$(if $(filter cpu,$(TORCH)),, and 6 GB; TORCH=cpu make … leaves CUDA out)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A small accuracy-energy sweep on embedded data; ends with the path of the report. DEMO=search.n_trials=3 makes it shorter;
# after it DEMO=search.n_trials=10 adds two trials.
demo: setup
	@echo "A sweep of eight small networks on embedded data: two to three minutes on two cores; what is finished is kept"
	WANDB_MODE=offline $(BIN)/python src/sweep.py -m hparams_search=demo $(DEMO)

# One elastic training on embedded data, and the front of 300 networks that are slices of it.
demo-elastic: setup
	WANDB_MODE=offline $(BIN)/python src/sweep.py -m hparams_search=demo search/engine=elastic search.n_trials=300 search.study=demo-elastic $(DEMO)

test: setup
	$(PYTEST)

# The long tests too, those that need other libraries' neurons, and properties on three times as many examples.
test-all: export SPIKEFRONT_TEST_ALL = 1
test-all: setup bench-extra
	$(PYTEST) -m 'not slurm'

# On the lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest: .venv-lowest/.ready
	.venv-lowest/bin/python -m pytest $(SPREAD)

.venv-lowest/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	@touch $@

# As root. First installs what some tests need (databases, an ARM compiler and emulator); mounts small disks under /tmp.
test-system: setup
	@$(BIN)/python -c 'import pymysql' 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,mysql]'
	$(BIN)/python tests/support/system.py postgresql mariadb-server g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
	SPIKEFRONT_TEST_SYSTEM=1 $(BIN)/python -m pytest -m system

# As root. First installs SLURM, munge, MariaDB and Chromium from Debian's packages; two clusters side by side, as most of it is waiting.
test-slurm: setup
	$(BIN)/python tests/support/system.py slurmctld slurmd slurm-client munge slurmdbd mariadb-server chromium
	SPIKEFRONT_TEST_SYSTEM=1 $(BIN)/python -m pytest -m slurm -n 2

# Ray clusters of several nodes on this machine, with PostgreSQL where it is installed (test-system does that): 1 GB at once.
test-ray: setup
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	$(BIN)/python -m pytest -m ray

# On a CUDA device with whatever Python has PyTorch: make test-gpu PYTHON=python3 (docs/gpu.md says what it needs).
test-gpu:
	$(PYTHON) -m pytest tests/gpu -m gpu --durations 5

# Neurons and networks on a CUDA device, each part under a minute; goes on where it was stopped. PARTS='sdt_8_384/*' chooses.
bench-gpu:
	$(PYTHON) benchmarks/gpu.py $(PARTS) --json outputs/gpu.jsonl

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every measured comparison, one after the other; each prints a table and says what it compares.
bench: setup bench-extra
	@for script in $(filter-out benchmarks/gpu.py benchmarks/search.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-extra: setup
	@$(BIN)/python -c 'import datasets, gcp_storage_emulator, gcsfs, matplotlib, moto, neurobench, nir, nirtorch, onnxruntime, onnxscript, ray, s3fs, sanafe, snntorch, spikingjelly, transformers' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench,datasets,gcs,huggingface,nir,neurobench,onnx,ray,s3,sanafe]' gcp-storage-emulator 'moto[server]'

# The site (tutorial, guides, reference) into build/docs; open build/docs/index.html.
docs: setup
	@$(BIN)/python -c 'import material, mkdocstrings' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf outputs build .pytest_cache .ruff_cache .mypy_cache
