"""Imports point downwards, and every third-party library has its rooms."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from typing import Any

# Floor of every room. A room imports itself and lower floors, never a sibling. The words (floor 0) count as one room.
FLOORS = {
    "words": 0,
    "diffusion": 1,
    **dict.fromkeys(("data", "families", "trainees", "memory", "runtime", "toybox", "runs", "pages"), 2),
    **dict.fromkeys(("training", "sampling", "weights", "measures"), 3),
    **dict.fromkeys(("pictures", "estimate", "adapters", "schema"), 4),
    "evaluation": 5,
    "trainer": 6,
    "recipes": 7,
    "cli": 8,
    **dict.fromkeys(("api", "compat", "notebook", "web", "__main__"), 9),
    "dreambooth": 10,
}
WORDS = {
    "__init__",
    "errors",
    "config",
    "files",
    "display",
    "display_console",
    "display_events",
    "display_silent",
    "display_wrapping",
    "presets",
    "reading",
    "record_files",
    "seals",
    "yaml_reading",
}
DOORS = 8
"""Below this floor a room's settings load no torch and count as words: any room may read them."""

# Where a third-party library may be imported. A library that is not in this table may be imported nowhere.
FENCES = {
    "cyclopts": ["cli/*"],
    "diffusers": ["families/*", "sampling/*"],
    "filelock": ["runs/lock.py"],
    "huggingface_hub": ["weights/hub.py", "weights/hub_photos.py", "weights/hub_upload.py"],
    "jinja2": ["pages/templates.py"],
    "markupsafe": ["pages/templates.py"],
    "IPython": ["notebook/*"],
    "ipywidgets": ["notebook/*"],
    "numpy": ["*"],
    "PIL": ["data/*", "pages/images.py", "pages/thumbnails.py"],
    "pillow_heif": ["data/decoding.py"],
    "psutil": ["runs/alive.py", "runtime/free_memory.py"],
    "pydantic": ["config.py", "*/settings.py", "schema/verbs.py"],
    "ray": ["runtime/workers.py"],
    "rich": ["cli/*", "display_console.py"],
    "safetensors": ["*"],
    "starlette": ["web/*"],
    "tokenizers": ["families/*"],
    "torch": ["*"],
    "transformers": ["families/*", "sampling/*", "measures/encoders.py", "measures/segmenter.py", "measures/captioner.py"],
    "uvicorn": ["web/*"],
    "wandb": ["runs/boards.py"],
    "yaml": ["yaml_reading.py", "config.py"],
}
WITHOUT_TORCH = [
    "errors.py",
    "config.py",
    "files.py",
    "cli/*",
    "*/settings.py",
    "display*.py",
    "reading.py",
    "record_files.py",
    "seals.py",
    "yaml_reading.py",
    "schema/*",
    "__init__.py",
    "__main__.py",
    "*/__main__.py",
]


def _room(dotted: str) -> str:
    """The room of a dotted name inside the package; a name that is no module is one of the package itself.

    A `__main__` is a door wherever it stands. The package itself offers what the doors hold, at its first use.
    """
    if dotted == "dreambooth":
        return dotted
    if dotted.endswith(".__main__"):
        return "__main__"
    first, second = (*dotted.split("."), "", "")[1:3]
    if second == "settings" and FLOORS[first] < DOORS:
        return "words"
    return "words" if first in WORDS or first not in FLOORS else first


def _is_in(place: str, patterns: list[str]) -> bool:
    return any(fnmatch(place, pattern) for pattern in patterns)


def test_every_module_belongs_to_a_room(modules: list[Any]) -> None:
    rooms = {module.place: module.place.split("/")[0].removesuffix(".py") for module in modules}
    strangers = [place for place, room in rooms.items() if room not in FLOORS and room not in WORDS]
    assert strangers == []


def test_imports_point_downwards(modules: list[Any]) -> None:
    wrong = []
    for module in modules:
        here = _room(module.name)
        for line, dotted in module.imports():
            if dotted.split(".")[0] != "dreambooth":
                continue
            there = _room(dotted)
            if there != here and FLOORS[there] >= FLOORS[here]:
                wrong.append(f"{module.place}:{line}: {here} (floor {FLOORS[here]}) imports {dotted} (floor {FLOORS[there]})")
    assert wrong == []


def test_third_party_libraries_stay_behind_their_fences(modules: list[Any]) -> None:
    wrong = []
    for module in modules:
        for line, dotted in module.imports():
            library = dotted.split(".")[0]
            if library == "dreambooth" or library in sys.stdlib_module_names:
                continue
            if not _is_in(module.place, FENCES.get(library, [])):
                wrong.append(f"{module.place}:{line}: {library}")
    assert wrong == []


def test_the_words_and_the_command_line_do_not_name_torch(modules: list[Any]) -> None:
    wrong = [
        f"{module.place}:{line}"
        for module in modules
        for line, dotted in module.imports()
        if dotted.split(".")[0] == "torch" and _is_in(module.place, WITHOUT_TORCH)
    ]
    assert wrong == []


# Below these, a module knows the settings of a verb only to read what a run folder remembers.
COMPOSERS = ["api/*", "recipes/*", "cli/*", "compat/*", "notebook/*", "web/*", "schema/*", "evaluation/remembered_run.py"]
PREFLIGHT = [f"trainer/{name}.py" for name in ("preflight", "run_records", "workload", "resume_rules")]


def test_nothing_below_preflight_knows_the_settings_of_a_verb(modules: list[Any]) -> None:
    """`schema/verbs.py` is for those that compose a verb, and for preflight, which turns settings into records."""
    wrong = [
        module.place
        for module in modules
        if any(dotted.startswith("dreambooth.schema.verbs") for _, dotted in module.imports())
        and not _is_in(module.place, [*COMPOSERS, *PREFLIGHT])
    ]
    assert wrong == []


def _imported(module: Any, names: set[str]) -> set[str]:
    """The modules that a module imports, at its top, inside functions and for type checking alike."""
    dotted = {name if name in names else name.rpartition(".")[0] for _, name in module.imports()}
    return (dotted & names) - {module.name, "dreambooth"}


def _circles(graph: dict[str, set[str]]) -> list[str]:
    """The modules that are left when those that import none of the rest are taken away, again and again."""
    left = dict(graph)
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    while free := [name for name in left if not any(name in imported for imported in left.values())]:
        for name in free:
            del left[name]
    return sorted(left)


def test_circles_are_found() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]


def test_no_circle_between_files(modules: list[Any]) -> None:
    names = {module.name for module in modules}
    assert _circles({module.name: _imported(module, names) for module in modules}) == []
