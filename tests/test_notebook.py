"""docs/first-steps.ipynb runs from its first cell to its last, and finds what it shows."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


def outputs_of(notebook):
    """Text of the outputs, a string per code cell."""
    return [
        "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.outputs
            if output.get("name") != "stderr"
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_did(tmp_path, monkeypatch):
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = outputs_of(notebook)
    NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()  # a cell that fails raises
    found = outputs_of(notebook)
    assert len(found) == len(stored)
    folders, hits, probe, untrained = found[1], found[3], found[-2], found[-1]
    assert folders == "{'drums': 25, 'no-drums': 23}"
    assert "demo 00000" in hits.splitlines()[1]  # the pan flute
    assert "strong" in hits.splitlines()[1]
    for text in (probe, untrained):
        assert "balanced accuracy" in text
