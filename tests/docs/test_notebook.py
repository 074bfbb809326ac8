"""examples/averaging.ipynb stands as it ran, from top to bottom, and runs so again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "averaging.ipynb"
LARGEST = 300_000
RUN = (
    "import sys, nbclient, nbformat\n"
    "notebook = nbformat.read(sys.argv[1], 4)\n"
    "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()\n"
    "nbformat.write(notebook, sys.argv[1])\n"
)


def code(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def ran(cells: list[dict[str, Any]]) -> bool:
    """Whether each ran once, one after the other, without an error."""
    in_order = [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    return in_order and all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])


def told(cells: list[dict[str, Any]]) -> str:
    return "".join("".join(output.get("text", ())) for cell in cells for output in cell["outputs"])


def holds(text: str) -> None:
    """What does not depend on the machine, or on what was drawn."""
    assert text.count(": True\n") == 3
    assert ": False\n" not in text
    assert "in the sum: heart, brain, ward 7, night shift\n" in text
    assert "three lost: 2 clients left in round masked-input, 3 needed" in text
    assert re.search(r"bound 0\.2: \d\d\.\d% cut.*\n  warned: \d+ numbers", text)
    assert int(re.findall(r"one masked sum of five clients (\d+) of 40 images", text)[0]) >= 35
    read = dict(re.findall(r"multiplier (\S+): (\d+) of 40 images", text))
    assert int(read["1e-05"]) >= 30
    assert read["0.001"] == read["1.0"] == "0"


def test_the_notebook_stands_as_it_ran_and_is_small() -> None:
    assert ran(code(NOTEBOOK))
    holds(told(code(NOTEBOOK)))
    assert NOTEBOOK.stat().st_size < LARGEST


def test_its_pages_are_there_and_no_path_of_a_machine_is() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
    assert "stderr" not in text  # where a warning names the file that it comes from


@pytest.mark.parametrize(
    "cells",
    [
        [{"execution_count": 2, "outputs": []}],
        [{"execution_count": None, "outputs": []}],
        [{"execution_count": 1, "outputs": [{"output_type": "error"}]}],
    ],
)
def test_a_cell_that_did_not_run_in_its_turn_is_noticed(cells: list[dict[str, Any]]) -> None:
    assert not ran(cells)


@pytest.mark.slow
def test_it_runs_again(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="the notebook is run by nbclient: pip install 'secagg[dev]'")
    pytest.importorskip("ipykernel", reason="the notebook is run in ipykernel: pip install 'secagg[dev]'")
    copy = tmp_path / NOTEBOOK.name
    copy.write_text(NOTEBOOK.read_text(encoding="utf-8"), encoding="utf-8")
    # In a process of its own: what nbclient leaves open is not this suite's to count as a warning.
    subprocess.run([sys.executable, "-c", RUN, copy], cwd=tmp_path, check=True, capture_output=True)
    assert ran(code(copy))
    holds(told(code(copy)))
