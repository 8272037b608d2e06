# The contributor's menu. Every target sets up .venv first if it is missing or out of date.
.PHONY: all setup tour test quick hostile gpu browser lint fix types imports wheel docs site bench golden clean

BIN := .venv/bin
# As many tests at a time as there are cores, 8 at most: each process holds a gigabyte.
# WORKERS=0 runs them in one process, as --pdb needs.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

all: test lint types imports

setup:
	@scripts/setup.sh

tour: setup  ## corpus, pre-training, evaluation, embedding, tags, report, search: tour/report.md
	@bash runs/tour.sh

test: setup  ## all tests that need no GPU, no browser and no network
	$(PYTEST) -m "not gpu and not browser and not network"

quick: setup  ## the tests that take no time
	$(PYTEST) -m "not slow and not gpu and not browser and not network"

hostile: setup  ## 50 rounds of kills, full disks and damaged files; SEED=17: that one alone
	MULAP_HOSTILE_ROUNDS=$(or $(ROUNDS),50) MULAP_HOSTILE_SEED=$(SEED) $(PYTEST) tests/hostile

gpu: setup  ## the tests that need a CUDA device (TORCH=auto make setup brings the torch for it)
	MULAP_GPU=1 $(BIN)/python -m pytest -m gpu

browser: setup  ## the page in Chromium, which is installed first (Debian and its relatives)
	@scripts/install_chromium.sh
	$(BIN)/python -m pytest -m browser

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/basedpyright

imports: setup  ## data flows one way
	$(BIN)/lint-imports

wheel:  ## the built wheel, without extras in a bare venv, embeds and tags
	@scripts/check_wheel.sh

docs: setup  ## write the generated pages: docs/cli.md, docs/configs.md
	$(BIN)/python scripts/make_docs.py

site: setup  ## the site, from README, docs/ and docstrings: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: setup  ## measure everything, about 15 minutes, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks --page docs/benchmarks.md

golden: setup  ## cut the golden data out of SOURCE, the folder of full activations
	$(BIN)/python scripts/make_golden.py $(SOURCE)

clean:
	rm -rf .venv tour site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
