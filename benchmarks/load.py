"""`load`: reads, hashes and writes a model file, compared with plain reading and writing of the same number of bytes.

Each part has a process of its own, so that its peak memory is its own. Before a file is read it is dropped from the cache of
the system as far as the system allows it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import SIZES, family_of
from benchmarks.records import ROOT, add_output_option, emit, say
from dreambooth.families.family import Family
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.write import write_single_file

__all__ = ["add_arguments", "main", "measure", "write_random_model"]

_CHUNK = 2**24
_WORK = {
    "import": "",
    "digest": "read_model(source).digest()",
    "convert": "write_single_file(destination, read_model(source), dtype=torch.float16, metadata={})",
    "build": "read_model(source).build(dtype=torch.float32)",
}
_CHILD = """
import json, sys, time
from pathlib import Path
import torch
from dreambooth.runtime.device import peak_memory_bytes
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file
import diffusers.models.autoencoders.autoencoder_kl, diffusers.models.unets.unet_2d_condition
import transformers.models.clip.modeling_clip
source, destination, start, used = sys.argv[1], Path(sys.argv[2]), time.perf_counter(), time.process_time()
{work}
seconds, processor = time.perf_counter() - start, time.process_time() - used
print(json.dumps({{"seconds": seconds, "processor": processor, "peak": peak_memory_bytes(torch.device("cpu"))}}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `load`."""
    parser.add_argument(
        "--size", choices=SIZES, default="sd1", help="sd1: a file of 4.27 GB, which needs 11 GB of disk (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="folder for temporary files (default: that of the system)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Write a random float32 .ckpt, measure, remove all files, and print one record."""
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source, destination = folder / "model.ckpt", folder / "model.safetensors"
        _child_make(arguments.size, source)
        size_read = source.stat().st_size
        imports = _child("import", source, destination)
        digest, convert, build = (_child(work, source, destination) for work in ("digest", "convert", "build"))
        size_written = destination.stat().st_size
        before = _plain(source, folder / "plain", size_written)
        again = _child("convert", source, destination)
        after = _plain(source, folder / "plain", size_written)
        digest_of_written = _child("digest", destination, destination)
    plain = {name: min(before[name], after[name]) for name in before}
    seconds = min(convert["seconds"], again["seconds"])
    values: dict[str, Any] = {
        "size": arguments.size,
        "file_bytes": size_read,
        "written_bytes": size_written,
        "read_and_write_seconds": [round(one["seconds"], 3) for one in (convert, again)],
        "read_and_write_processor_seconds": [round(one["processor"], 3) for one in (convert, again)],
        "digest_processor_seconds": round(digest["processor"], 3),
        "digest_seconds": round(digest["seconds"], 3),
        "digest_of_written_seconds": round(digest_of_written["seconds"], 3),
        "read_and_build_seconds": round(build["seconds"], 3),
        "plain_read_seconds": [round(one["read"], 3) for one in (before, after)],
        "plain_write_seconds": [round(one["write"], 3) for one in (before, after)],
        "ratio_to_plain": round(seconds / (plain["read"] + plain["write"]), 3),
        "imports_peak_bytes": imports["peak"],
        "peak_bytes": {name: one["peak"] for name, one in (("digest", digest), ("convert", convert), ("build", build))},
        "convert_peak_without_imports_to_written": round((convert["peak"] - imports["peak"]) / size_written, 3),
        "convert_peak_to_written": round(convert["peak"] / size_written, 3),
        "build_peak_without_imports_to_file": round((build["peak"] - imports["peak"]) / size_read, 3),
        "build_peak_to_file": round(build["peak"] / size_read, 3),
    }
    emit("load", values, arguments.output, device=device)


def write_random_model(path: Path, family: Family, *, dtype: torch.dtype, device: torch.device, seed: int = 0) -> None:
    """Write a model file with the original's tensor names and random weights, drawn on `device`; the suffix sets the format.

    Matrices are uniform in +-0.02 and norms are the identity, so the model computes finite numbers.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def part(blueprint: Any) -> dict[str, torch.Tensor]:
        tensors = {}
        for name, shape in blueprint.items():
            tensor = torch.empty(shape, dtype=dtype, device=device)
            if len(shape) == 1:
                tensor.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                tensor.uniform_(-0.02, 0.02, generator=generator)
            tensors[name] = tensor
        return tensors

    weights = ModelWeights(
        family=family,
        parts={name: part(described.blueprint) for name, described in family.parts.items()},
        report=ReadingReport(path, "single file", (), family.title, (), "only"),
        metadata={},
    )
    write_single_file(path, weights, dtype=dtype, metadata={})


def main(size: str, path: Path) -> None:
    """In a child process: write the file to be read."""
    write_random_model(path, family_of(size), dtype=torch.float32, device=torch.device("cpu"))


def _child_make(size: str, path: Path) -> None:
    code = "import sys; from pathlib import Path; from benchmarks.load import main; main(sys.argv[1], Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, size, str(path)], cwd=ROOT, check=True, capture_output=True)


def _child(work: str, source: Path, destination: Path) -> dict[str, Any]:
    _drop_from_cache(source)
    command = [sys.executable, "-c", _CHILD.format(work=_WORK[work]), str(source), str(destination)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    say(f"# {work}: {result['seconds']:.2f} s, peak {result['peak'] / 1e9:.2f} GB")
    return result


def _plain(source: Path, scratch: Path, num_bytes: int) -> dict[str, float]:
    """Seconds to read the whole file, and to write and flush `num_bytes`."""
    _drop_from_cache(source)
    buffer = bytearray(_CHUNK)
    start = time.perf_counter()
    with source.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    read = time.perf_counter() - start
    start = time.perf_counter()
    with scratch.open("wb", buffering=0) as file:
        for begin in range(0, num_bytes, _CHUNK):
            file.write(memoryview(buffer)[: min(_CHUNK, num_bytes - begin)])
        os.fsync(file.fileno())
    write = time.perf_counter() - start
    scratch.unlink()
    say(f"# plain: read {read:.2f} s, write {write:.2f} s; free {shutil.disk_usage(scratch.parent).free / 1e9:.0f} GB")
    return {"read": read, "write": write}


def _drop_from_cache(path: Path) -> None:
    """Drop the file from the page cache, best effort; flushes first, since only written pages can be dropped."""
    if not path.exists() or not hasattr(os, "posix_fadvise"):
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
