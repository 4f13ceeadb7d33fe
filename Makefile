# Two commands are enough on a fresh machine: `make demo` and `make test`.
# Every target sets up its environment by itself when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
ENV := .venv/.ready
# A process a core; the tests of a file share what the file sets up.
PARALLEL := --numprocesses auto --dist loadfile

.PHONY: demo test check board results claims docs book gpu gpu-wheels test-torchtext clean

$(ENV): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,docs,export,serve]'
	@touch $@

demo: $(ENV)            ## train FastText and TextCNN on BBC News, compare, classify two sentences
	@$(BIN)/python scripts/demo.py

test: $(ENV)            ## the test-suite, without what is slow
	$(BIN)/python -m pytest -m 'not slow' $(PARALLEL)

check: $(ENV)           ## everything CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	$(BIN)/python -m pytest -m slow $(PARALLEL)
	$(MAKE) test-torchtext

test-torchtext: .venv-torchtext/.ready   ## torchtext's equivalences and the whole suite on torch 2.3.1
	.venv-torchtext/bin/python -m pytest tests/against_torchtext
	.venv-torchtext/bin/python -m pytest -m 'not slow' --ignore tests/against_torchtext $(PARALLEL)

.venv-torchtext/.ready: pyproject.toml constraints-torchtext.txt
	$(PYTHON) -m venv .venv-torchtext
	.venv-torchtext/bin/python -m pip install --quiet --constraint constraints-torchtext.txt --editable '.[demo,dev,torchtext]'
	@touch $@

.venv-fasttext/.ready:    ## the C++ program that scripts/bench_fasttext.py compares with
	$(PYTHON) -m venv .venv-fasttext
	.venv-fasttext/bin/python -m pip install --quiet fasttext-wheel 'numpy<2'
	@touch $@

board: $(ENV)           ## TensorBoard on every run
	$(BIN)/tensorboard --logdir runs

results: $(ENV)         ## rewrite the tables of the READMEs and the book from the records in results/
	$(BIN)/python scripts/tables.py

claims: $(ENV)          ## test every claim of the notes; the report is runs/claims/report.html
	$(BIN)/python scripts/claims.py

docs: $(ENV)            ## the book, in English and Chinese, into build/docs
	$(BIN)/python scripts/book.py

book: $(ENV)            ## the same, opened in the browser
	$(BIN)/python scripts/book.py --open

# Uses the Python that has torch for CUDA, and installs nothing into it.
gpu:                    ## the tests and benchmarks on a GPU, into results/benchmarks/gpu.json
	@$(PYTHON) scripts/gpu.py

GPU_PYTHON ?= 3.12
GPU_PLATFORMS ?= manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64
gpu-wheels:             ## what `make gpu` installs on a machine without a package index, into wheels/
	@mkdir -p wheels && rm -f wheels/*.whl
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --dest wheels \
	  --python-version $(GPU_PYTHON) --implementation cp $(GPU_PLATFORMS:%=--platform %) \
	  --constraint constraints.txt --requirement wheels.txt

clean:
	rm -rf .venv .venv-torchtext .venv-fasttext build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
