"""The notebook for rented GPUs, from top to bottom on the CPU with the embedded model, and the file as it is kept."""

from __future__ import annotations

import ast
import builtins
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from dreambooth.runs.events import read_events

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "dreambooth_rented_gpu.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def _is_parameters(cell: Any) -> bool:
    return "parameters" in cell.metadata.get("tags", ())


def _assigned(source: str) -> set[str]:
    targets = [target for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _with_values(notebook: Any, values: Mapping[str, object]) -> Any:
    """The notebook with other values in its parameter cells, as a person would type them there."""
    left = dict(values)
    for cell in notebook.cells:
        if _is_parameters(cell):
            mine = {name: left.pop(name) for name in _assigned(cell.source) & left.keys()}
            cell.source = "\n".join([cell.source, *(f"{name} = {value!r}" for name, value in mine.items())])
    assert left == {}, "no cell has these variables"
    return notebook


def _run(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of settings of its own: the kernel must not be that of the person who runs the tests.
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()


def _shown(cell: Any) -> str:
    """All HTML and text that a cell shows."""
    parts = [output.get("text", "") for output in cell.outputs]
    parts += [
        "".join(output.data.get(kind, "") for kind in ("text/html", "text/plain"))
        for output in cell.outputs
        if "data" in output
    ]
    return "\n".join(parts)


def _cell_with(notebook: Any, text: str) -> Any:
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source)


def test_it_is_kept_clean_and_valid(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [cell.id for cell in code if len(cell.source.splitlines()) > 20] == []
    assert [cell.id for cell in code if any(line.startswith(("!", "%")) for line in cell.source.splitlines())] == []


def test_every_variable_is_a_form_in_colab(notebook: Any) -> None:
    lines = [line for cell in notebook.cells if _is_parameters(cell) for line in cell.source.splitlines()]
    assert len(lines) > 20
    form = r"# @markdown .+|[A-Z_]+ = .+  # @param (\[.*\] )?\{type:\"(string|integer|boolean|raw)\"\}"
    assert [line for line in lines if not re.fullmatch(form, line)] == []


def test_every_section_that_asks_something_begins_with_its_variables(notebook: Any) -> None:
    """A variable in capitals is one to change: it is assigned in a parameter cell, before it is read."""
    known: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if _is_parameters(cell):
            known |= _assigned(cell.source)
            continue
        names = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
        assert {name for name in names if name.isupper()} <= known, cell.id


def test_a_machine_that_was_taken_away_needs_the_sections_that_the_last_one_names(notebook: Any) -> None:
    """Sections 2, 3 and 13 alone, in a fresh kernel: they define every name that they use."""
    section, known = "", set(dir(builtins))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            section = cell.source.partition(".")[0].removeprefix("## ")
        elif section in ("2", "3", "13"):
            nodes = list(ast.walk(ast.parse(cell.source)))
            imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
            known |= {(alias.asname or alias.name).partition(".")[0] for alias in imported}
            names = [node for node in nodes if isinstance(node, ast.Name)]
            known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
            assert {node.id for node in names} <= known, cell.source


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    values = {
        "PLACE": "place",
        "MODEL": "toybox",
        "MEMORY_PRESET": "cpu",
        "PHOTOS": str(tmp_path / "photos"),
        "CLASS_WORD": "backpack",
        "RESOLUTION": 64,
        "NUM_CLASS_IMAGES": 2,
        "HOW_MADE": {"prior_sampler": "dpm++", "prior_sampling_steps": 2, "prior_guidance_scale": 2.5},
        "STEPS": 2,
        "CHECKPOINT_STEPS": 1,
        "PREVIEW_STEPS": 2,
        "MORE": {"preview_prompts": ["{instance_prompt}"], "validation_steps": 2},
        "STEP": 1,
        "MEASURE": True,
        "IMAGES_PER_PROMPT": 1,
        "NUM_PICTURES": 1,
        "HOW": {"sampling_steps": 2},
    }
    filled = _with_values(notebook, values)
    _run(filled, tmp_path, monkeypatch)
    run = tmp_path / "place" / "runs" / "rex"
    assert (run / "model.safetensors").is_file()
    assert [event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "step"] == [1, 2]
    assert len(list((tmp_path / "place" / "class-images").glob("*/*.png"))) == 2, "training must use the set that was made"
    assert not (run.parent / "class-images").exists()
    assert len(list((tmp_path / "place" / "pictures").glob("*.png"))) == 2

    assert "resolution: 64" in (run / "config.yaml").read_text(encoding="utf-8")
    assert "The subject was" in (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    training = _shown(_cell_with(filled, "train(run, **settings)"))
    assert "<svg" in training and "photos on fixed noise" in training
    assert "step 2 of 2" in training
    assert training.count("data:image/png;base64,") == 2, "previews of the steps 0 and 2"
    assert "no problems" in _shown(_cell_with(filled, "ask_for_photos("))
    assert _shown(_cell_with(filled, "ask_for_photos(")).count("data:image/png;base64,") == 3
    assert "Words" in _shown(_cell_with(filled, '"inspect"')) and "cpu fits cpu" in _shown(_cell_with(filled, '"plan"'))
    assert "step 1: step-000001.safetensors" in _shown(_cell_with(filled, "choose_model(run"))
    assert "step-000001.safetensors" in _shown(_cell_with(filled, "offer_download(choice"))
    assert _shown(_cell_with(filled, 'run_command("generate"')).count("data:image/png;base64,") == 2
    assert "is finished" in _shown(filled.cells[-1])


@pytest.mark.slow
def test_a_mistake_is_told_in_the_commands_own_words(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = next(
        number for number, cell in enumerate(notebook.cells) if "ask_for_photos(" in cell.source and "import" not in cell.source
    )
    notebook.cells = notebook.cells[:stop]
    with pytest.raises(CellExecutionError, match="no such file or folder"):
        _run(_with_values(notebook, {"PLACE": "place", "MODEL": "./missing.ckpt"}), tmp_path, monkeypatch)
