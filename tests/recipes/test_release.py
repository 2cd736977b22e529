"""The wheel, in an environment where this repository is not: it holds all that the demo needs, and nothing of the workshop."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _done(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**environment, "CUDA_VISIBLE_DEVICES": "", "PIP_NO_INDEX": "1"},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the repository as it stands."""
    folder = tmp_path_factory.mktemp("wheel")
    _done(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT),
        cwd=folder,
    )
    (path,) = folder.glob("dreambooth-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and sees the libraries that are installed for the tests.

    A path in a .pth file brings the libraries; the .pth files among them, such as that of an editable install, are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    _done(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    _done(
        *(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-warn-script-location",
            wheel,
        ),
        cwd=folder,
    )
    site = Path(_done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return programs


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"dreambooth"}
    assert "dreambooth/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    shipped = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert {name for name in shipped - set(names) if "__pycache__" not in name and ".egg-info" not in name} == set()


@pytest.mark.slow
def test_training_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    place = _done(environment / "python", "-c", "import dreambooth; print(dreambooth.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(environment.parent)
    command = environment / "dreambooth"
    _done(command, "toybox", "photos", "--subject", "zigzag-mug", "--output", "photos", cwd=tmp_path)
    short = "--steps 2 --num-prior-images 2 --prior-sampling-steps 2 --preview-steps 0 --validation-steps 0"
    given = "--preset toybox --photos photos --class-word mug --output runs/mug"
    _done(command, "train", *given.split(), *short.split(), cwd=tmp_path)
    assert (tmp_path / "runs" / "mug" / "model.safetensors").is_file()


@pytest.mark.release
@pytest.mark.timeout(900)  # the whole demo: 77 seconds on two idle cores
def test_the_demo_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    _done(environment / "dreambooth", "demo", cwd=tmp_path)
    assert (tmp_path / "runs" / "demo" / "model.safetensors").is_file()
    assert (tmp_path / "runs" / "demo" / "story.png").is_file()
