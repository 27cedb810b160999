.PHONY: lint check format test test-slow notebooks docs

lint:
	python -m ruff format --check .
	python -m ruff check .
	python -m pyright

check: lint
	python -m pytest

format:
	python -m ruff format .
	python -m ruff check --fix .

test: check test-slow

# What takes long: kills, several processes, whole comparisons.
test-slow:
	python -m pytest -m slow

# Runs the notebooks from top to bottom, at toy size, and keeps nothing of what they print.
notebooks:
	TOY=1 python -c "from nbclient.cli import main; main()" --timeout=1800 notebooks/*.ipynb

# Builds the documentation into build/site; a broken link is an error.
docs:
	python -m mkdocs build
