"""A Stable Diffusion 1 of full size with random weights: written, inspected, converted both ways, read and built.

Needs 20 GB of disk and several minutes. Every step has a process of its own, whose peak memory is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GB = 10**9
IMPORTED = 0.7 * GB  # what torch, diffusers and transformers take by themselves
WEIGHTS_FLOAT32 = 4 * 1_066_235_307

PROLOGUE = """
import json, sys, time
from pathlib import Path
import torch
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.recipes.convert import convert
from dreambooth.display_console import ConsoleDisplay
from dreambooth.schema.verbs import ConvertSettings
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file
start, source, destination, result = time.monotonic(), sys.argv[1], Path(sys.argv[2]), None
"""
EPILOGUE = """
# not ru_maxrss, which begins at the peak of the process that started this one
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"seconds": time.monotonic() - start, "peak": peak, "result": result}))
"""
MAKE = """
family = StableDiffusion1(
    UNetShape(4, 4, (320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, 768, False),
    VaeShape(3, 4, (128, 256, 512, 512), 2),
    TextShape(49408, 77, 768, 3072, 12),
)
generator = torch.Generator().manual_seed(0)
blueprints = unet_blueprint(family.unet), vae_blueprint(family.vae), text_blueprint(family.text)
parts = [
    {name: torch.empty(shape, dtype=torch.float16).uniform_(-0.05, 0.05, generator=generator) for name, shape in part.items()}
    for part in blueprints
]
report = ReadingReport(destination, "single file", (), family.title, (), "only")
named = dict(zip(family.parts, parts, strict=True))
write_single_file(destination, ModelWeights(family, named, report, {}), dtype=torch.float16, metadata={})
result = destination.stat().st_size
"""
INSPECT = """
report = read_model(source).report
result = [[part.num_tensors, part.num_parameters, part.dtypes] for part in report.parts] + [list(report.leftover)]
"""
DIGEST = "result = read_model(source).digest()"
CONVERT = "convert(ConvertSettings(source=source, destination=destination), ConsoleDisplay())"
BUILD = "read_model(source).build(dtype=torch.float32)"


def measured(step: str, source: Path, destination: Path) -> tuple[object, float]:
    """The step's result and its peak memory in bytes."""
    command = [sys.executable, "-c", PROLOGUE + step + EPILOGUE, str(source), str(destination)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    outcome = json.loads(lines[-1])
    print(f"{step.partition('(')[0].strip()[:24]}: {outcome['seconds']:.0f} s, peak {outcome['peak'] / GB:.2f} GB")
    return outcome["result"], outcome["peak"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_full_size(tmp_path: Path) -> None:
    file, folder, again = tmp_path / "sd1.safetensors", tmp_path / "sd1", tmp_path / "again.ckpt"
    size, _ = measured(MAKE, file, file)
    assert isinstance(size, int)
    assert abs(size - 2.13 * GB) < 0.005 * GB

    contents, peak = measured(INSPECT, file, file)
    assert contents == [
        [686, 859_520_964, {"float16": 686}],
        [248, 83_653_863, {"float16": 248}],
        [196, 123_060_480, {"float16": 196}],
        [],
    ]
    assert peak < IMPORTED

    _, peak = measured(CONVERT, file, folder)
    assert peak < IMPORTED + 0.3 * GB  # tensor by tensor
    _, peak = measured(CONVERT, folder, again)
    assert peak < IMPORTED + 1.3 * size  # a pickle is put together in memory
    assert measured(DIGEST, again, again)[0] == measured(DIGEST, file, file)[0]

    _, peak = measured(BUILD, file, file)
    assert peak < 1.3 * WEIGHTS_FLOAT32
