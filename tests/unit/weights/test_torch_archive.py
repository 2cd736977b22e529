from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.torch_archive import write_torch_archive
from dreambooth.weights.write import write_single_file

# What stable-diffusion-webui accepts, in its first version and (with two more names) in later ones.
FIRST_RULE = re.compile(r"^([^/]+)/((data/\d+)|version|(data\.pkl))$")
LATER_RULE = re.compile(r"^([^/]+)/((data/\d+)|version|byteorder|\.data/serialization_id|(data\.pkl))$")
# What its unpickler may find, of those that a file of ours could need.
NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch (Float|Half|BFloat16|Double|Int|Long|Byte)Storage"
)


def globals_of(pickled: bytes) -> set[str]:
    return {str(argument) for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}


@pytest.mark.parametrize("rule", [FIRST_RULE, LATER_RULE])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_other_programs_checks_pass_on_a_written_ckpt(
    tiny: ModelWeights, tmp_path: Path, rule: re.Pattern[str], dtype: torch.dtype | None
) -> None:
    path = tmp_path / "model.ckpt"
    write_single_file(path, tiny, dtype=dtype, metadata={})
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert all(rule.match(name) for name in names), [name for name in names if not rule.match(name)]
        assert len({name.partition("/")[0] for name in names}) == 1
        (data,) = [name for name in names if name.endswith("/data.pkl")]
        named = globals_of(archive.read(data))
    assert all(NAMES.fullmatch(name) for name in named), named


TENSORS = {
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "matrix": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "half": torch.tensor([1.5, -2]).half(),
    "bfloat16": torch.tensor([[1.5]]).bfloat16(),
    "float8": torch.tensor([1.5, 2]).to(torch.float8_e4m3fn),
    **{
        f"{dtype}": torch.tensor([[1, 0, 1]], dtype=dtype)
        for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    },
}


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_and_we_read_what_was_written(tmp_path: Path, mmap: bool) -> None:
    path = tmp_path / "any.ckpt"
    write_torch_archive(path, TENSORS, beside={"epoch": 3, "callbacks": {}})
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    assert (loaded["epoch"], loaded["callbacks"]) == (3, {})
    for tensors in (loaded["state_dict"], open_tensor_file(path).tensors):
        assert tensors.keys() == TENSORS.keys()
        for name, expected in TENSORS.items():
            assert (tensors[name].dtype, tensors[name].shape) == (expected.dtype, expected.shape)
            assert torch.equal(tensors[name].float(), expected.float())


def test_numbers_begin_at_multiples_of_64_bytes(tmp_path: Path) -> None:
    path = tmp_path / "any.ckpt"
    write_torch_archive(path, TENSORS, beside={})
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            lengths = raw[entry.header_offset + 26 : entry.header_offset + 30]
            start = 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            assert (entry.header_offset + start) % 64 == 0


def test_tensors_are_written_one_at_a_time(tmp_path: Path) -> None:
    """The first tensor is in the file, and let go of, before the second is converted."""
    path, sizes = tmp_path / "any.ckpt", []

    def after(_: Tensor) -> None:
        (partial,) = tmp_path.iterdir()
        sizes.append(partial.stat().st_size)

    tensors = {name: torch.zeros(1_000_000) for name in "abc"}
    write_torch_archive(path, tensors, beside={}, dtype=torch.float16, after=after)
    assert [round(size / 2e6) for size in sizes] == [1, 2, 3]
    assert {tensor.dtype for tensor in torch.load(path, weights_only=True)["state_dict"].values()} == {torch.float16}
