"""What holds for every module: short, explicit, silent, quick, and free of anything private."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dreambooth
import dreambooth.errors

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
QUICK = [
    "errors",
    "files",
    "config",
    "__main__",
    "toybox.settings",
    "cli.main",
    "cli.flags",
    "cli.layers",
    "cli.overview",
    "cli.verbs",
    "display",
    "display_events",
    "display_silent",
]


def test_modules_and_functions_are_short(modules: list[Any]) -> None:
    too_long = []
    for module in modules:
        lines = len(module.path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_MODULE:
            too_long.append(f"{module.place}: {lines} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    too_long.append(f"{module.place}:{node.lineno}: {node.name} has {lines} lines")
    assert too_long == []


def test_package_files_hold_a_docstring_only(modules: list[Any]) -> None:
    wrong = [
        module.place
        for module in modules
        if module.is_package
        and module.name != "dreambooth"
        and not (len(module.tree.body) == 1 and ast.get_docstring(module.tree))
    ]
    assert wrong == []


def _exports(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                return list(ast.literal_eval(node.value))
    return None


def test_every_module_says_what_it_exports(modules: list[Any]) -> None:
    silent = [m.place for m in modules if _exports(m.tree) is None and not (m.is_package and m.name != "dreambooth")]
    assert silent == []


def test_exports_exist(modules: list[Any]) -> None:
    wrong = []
    for module in modules:
        exports = _exports(module.tree) or []
        loaded = importlib.import_module(module.name)
        wrong += [f"{module.place}: {name}" for name in exports if not hasattr(loaded, name)]
        if len(set(exports)) != len(exports):
            wrong.append(f"{module.place}: a name twice in __all__")
    assert wrong == []


def test_every_module_opens_with_a_docstring(modules: list[Any]) -> None:
    assert [module.place for module in modules if not ast.get_docstring(module.tree)] == []


def test_nothing_prints(modules: list[Any]) -> None:
    prints = [
        f"{module.place}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)


def test_importing_everything_is_silent(modules: list[Any]) -> None:
    names = [module.name for module in modules if not module.name.endswith(".__main__")]
    result = _python("\n".join(f"import {name}" for name in names))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_command_line_loads_no_torch_before_a_recipe(modules: list[Any]) -> None:
    settings = [module.name for module in modules if module.place.endswith("/settings.py")]
    assert len(settings) >= 6
    names = [f"dreambooth.{name}" for name in QUICK] + settings
    heavy = {
        "torch",
        "numpy",
        "diffusers",
        "transformers",
        "accelerate",
        "peft",
        "safetensors",
        "huggingface_hub",
        "PIL",
        "yaml",
    }
    loads = "".join(f"import {name}\n" for name in names)
    result = _python(f"import sys\n{loads}sys.stdout.write(' '.join(sorted(set(sys.modules) & {heavy!r})))")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_first_help_loads_no_settings() -> None:
    heavy = {"torch", "pydantic", "yaml", "dreambooth.config", "dreambooth.schema.verbs"}
    code = (
        "import sys, io\nsys.stdout = io.StringIO()\nfrom dreambooth.cli.main import main\ncode = main(['--help'])\n"
        f"sys.stderr.write(' '.join(sorted(set(sys.modules) & {heavy!r})))\nsys.exit(code)"
    )
    result = _python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time\nstart = time.process_time()\nimport dreambooth\nseconds = time.process_time() - start\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'rich', 'yaml', 'PIL', 'dreambooth.errors'} & set(sys.modules)\n"
        "sys.stdout.write(f'{sorted(heavy)} {seconds < 0.1}')"
    )
    result = _python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[] True", "")


def test_public_names_are_these() -> None:
    assert dreambooth.__all__ == [
        "DreamboothError",
        "Interrupted",
        "ModelFileError",
        "PhotoError",
        "Picture",
        "Run",
        "RunError",
        "SettingsError",
        "TrainingError",
        "__version__",
        "convert",
        "evaluate",
        "generate",
        "inspect",
        "open",
        "plan",
        "prior",
        "train",
    ]
    assert dreambooth.errors.__all__ == [
        "DreamboothError",
        "Interrupted",
        "ModelFileError",
        "PhotoError",
        "RunError",
        "SettingsError",
        "TrainingError",
    ]


def _texts(root: Path) -> list[Path]:
    suffixes = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ""}
    tops = [root / name for name in ("src", "tests", "docs", ".ci", "LICENSES", "benchmarks", "experiments", "scripts")]
    inside = [path for top in tops for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    here = [path for path in root.iterdir() if path.name != ".git"]  # a file in a second worktree
    return [path for path in [*here, *inside] if path.is_file() and path.suffix in suffixes]


def test_nothing_points_out_of_the_repository(root: Path) -> None:
    outside = re.compile(r"(?<![\w.])/(?:wo" + r"rk|home|Users)/|(?<!\w)sha" + r"red/")
    texts = _texts(root)
    assert len(texts) > 50
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if outside.search(line)
    ]
    assert found == []
