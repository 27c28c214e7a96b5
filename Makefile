# Every target works alone on a fresh clone with Python 3.11 and make; the environment is made when it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# pip would compile what it installs, uv does not; without this each start compiles these anew where Python is told to
# write no bytecode (a minute here, a dozen seconds at each start there)
COMPILED = $(addprefix $(VENV)/lib/python*/site-packages/,torch torchvision timm lightning_fabric sympy pydantic \
	onnxscript onnx onnx_ir scipy matplotlib numpy PIL cv2 rich typer yaml onnxruntime) src/pspnet
# one thread for each of pytest's two workers: two workers with two threads each would wait for one another
TEST := OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: help install demo test test-all test-types test-browser test-processors test-floors test-pythons check bench faults docs clean requirements release-check

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# TORCH=cpu: PyTorch's build for processors, from its own index (uv's torch backend), without NVIDIA's 5 GB
TORCH ?=
BACKEND = $(if $(TORCH),--torch-backend $(TORCH))
PINS = $(if $(filter cpu,$(TORCH)),grep -vE '^(nvidia-|cuda-|triton)' requirements.txt,cat requirements.txt)

install: $(READY)  ## make .venv with every extra, pinned; TORCH=cpu for PyTorch without CUDA

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 14), "Python 3.11 to 3.13 is needed, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements.txt)
	$(PINS) | $(PY) -m uv pip install --quiet --python $(PY) $(BACKEND) -r -
	$(PY) -m uv pip install --quiet --python $(PY) --no-deps -e .
	$(PY) -m compileall -q -j 2 $(COMPILED) >/dev/null || true
	touch $(READY)

demo: $(READY)  ## train on generated scenes, show what pyramid pooling changes: demo/index.html
	$(PY) -m pspnet demo

test: $(READY)  ## the tests, under 6 minutes on 2 cores
	$(TEST) -n 2 --dist worksteal -m "not slow and not browser"

test-all: $(READY)  ## also the slow ones
	$(TEST) -m "not browser"

test-types: $(READY)  ## the tests with every annotation checked while they run: types, and shapes in the network
	PSPNET_CHECK_TYPES=1 $(TEST) -n 2 --dist worksteal -m "not slow and not browser and not wrong_types"

test-browser: $(READY)  ## the playground, and a parsed video, in a real browser; installs Debian's chromium when it is missing
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)
	$(TEST) -m browser $$(grep -rl mark.browser tests --include=test_*.py)

# what the libraries may use of the processor: a plain one (with SSE41 in place of AVX OpenVINO computes not one convolution, on a
# newer processor at least; all else passes), AVX2 only, AVX-512 without bfloat16, and all there is
PROCESSORS = ATEN_CPU_CAPABILITY=default,ONEDNN_MAX_CPU_ISA=AVX \
	ATEN_CPU_CAPABILITY=avx2,ONEDNN_MAX_CPU_ISA=AVX2,MKL_ENABLE_INSTRUCTIONS=AVX2 \
	ATEN_CPU_CAPABILITY=avx512,ONEDNN_MAX_CPU_ISA=AVX512_CORE ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX
ON_PROCESSORS = tests/weights tests/nn/test_folding.py tests/nn/test_blocks.py tests/predict/test_protocols.py \
	tests/predict/test_candidates.py tests/exporting tests/training/test_loop.py

test-processors: $(READY)  ## importers, goldens, folding, exports, resume as older and newer processors compute them
	@for one in $(PROCESSORS); do echo "== $$one"; \
		env $$(echo $$one | tr , ' ') $(TEST) -n 2 --dist worksteal -m "not slow and not browser" $(ON_PROCESSORS) || exit 1; done

# what shows first that another release of a library, or of Python, is another: networks, importers, exports, rasters, pages
ON_RELEASES = tests/config tests/nn tests/losses tests/weights/test_importing.py tests/weights/test_packaged_weights.py \
	tests/predict tests/georaster tests/raster/test_segment_raster.py tests/exporting tests/training/test_parts.py \
	tests/data/test_prepare.py tests/cli/test_program.py tests/server/test_app.py
OTHER = .venv-other
IN_OTHER = PYTHONPATH=src OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest -n 2 --dist worksteal -W "ignore:Benchmarks are" \
	-m "not slow and not browser" $(ON_RELEASES)

test-floors: $(READY)  ## with the lowest releases that pyproject.toml allows, in an environment of its own (7 GB)
	$(PY) -m uv venv --quiet --clear --python 3.11 $(OTHER)
	$(PY) -m uv pip compile --quiet pyproject.toml --all-extras --resolution lowest-direct --python-version 3.11 \
		--no-annotate --no-header -o $(OTHER)/floors.txt
	$(PY) -m uv pip install --quiet --python $(OTHER) --no-deps -r $(OTHER)/floors.txt
	$(IN_OTHER)

# interpreters by version, found or fetched by uv, or by path
PYTHONS ?= 3.13

test-pythons: $(READY)  ## with the pinned releases under other Pythons; PYTHONS="3.12 /path/to/python3.13"
	@for one in $(PYTHONS); do echo "== $$one"; \
		$(PY) -m uv venv --quiet --clear --python $$one $(OTHER) \
		&& $(PY) -m uv pip install --quiet --python $(OTHER) --no-deps -r requirements.txt && $(IN_OTHER) || exit 1; done

check: $(READY)  ## style, types, directions of imports
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(TEST) tests/test_structure.py

bench: $(READY)  ## pspnet bench and the small benchmarks of parts, into benchmarks/results
	$(PY) benchmarks/run.py

faults: $(READY)  ## kill, fill disks, alter files: the table in docs/reliability.md (an hour; FAULTS="--kills 2 --files 300" for less)
	$(PY) tools/faults.py $(FAULTS)

requirements:  ## pin anew: names and versions only
	$(PY) -m uv pip compile --quiet pyproject.toml --all-extras --no-annotate --no-header --python-version 3.11 -o requirements.txt

docs: $(READY)  ## the documentation as a site of files: site/index.html
	$(PY) -m uv pip install --quiet --python $(PY) -r requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

release-check: $(READY)  ## a release's checklist, run: versions, build, files, sizes, each extra alone (GBs); EXTRAS=none without
	$(PY) tools/release_check.py $(if $(EXTRAS),--extras $(EXTRAS))

clean:  ## remove what the targets made
	rm -rf $(VENV) $(OTHER) demo dist build site .mypy_cache .ruff_cache
