"""Pickles are data: a file that would run a program when loaded is read without running it."""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from dreambooth.errors import ModelFileError
from dreambooth.reading import printable
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.torch_files import LEGACY_START


class Trap:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def write_zip(
    path: Path, pickled: bytes, storages: dict[str, bytes], *, compression=zipfile.ZIP_STORED, **entries: bytes
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return path


def tensor_program(
    *, size=(2, 3), stride=(3, 1), offset=0, numel=6, key="0", storage=b"ctorch\nFloatStorage\n", view=b""
) -> bytes:
    """A pickle of {"weight": tensor}, its numbers as they are given."""
    number = lambda value: b"\x8a\x08" + struct.pack("<q", value) if type(value) is int else pickle.dumps(value)[2:-1]  # noqa: E731
    numbers = lambda values: b"(" + b"".join(number(value) for value in values) + b"t"  # noqa: E731
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()  # noqa: E731
    persistent = b"(" + text("storage") + storage + text(key) + text("cpu") + number(numel) + view + b"tQ"
    arguments = b"(" + persistent + number(offset) + numbers(size) + numbers(stride) + b"\x89}t"
    return b"\x80\x02}" + text("weight") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)


# ------------------------------------------------------------------------------------------------- nothing is executed


@pytest.mark.parametrize("place", ["top", "nested", "state dict"])
@pytest.mark.parametrize("way", ["os.system", "builtins.exec", "builtins.eval"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_make_a_file_makes_none(tmp_path, place, way, legacy):
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w').close()"
    trap = {
        "os.system": Trap(os.system, f"echo > {marker}"),
        "builtins.exec": Trap(builtins.exec, code),
        "builtins.eval": Trap(builtins.eval, code),
    }[way]
    weight = torch.arange(6.0).reshape(2, 3)
    content = {"state_dict": OrderedDict(weight=weight), "epoch": 3}
    match place:
        case "top":
            content["callbacks"] = trap
        case "nested":
            content["callbacks"] = [{"a": ({"b": [trap]},), trap: 1}]
        case "state dict":
            content["state_dict"]["evil"] = trap
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)

    file = open_tensor_file(path)

    assert not marker.exists()
    assert file.neutralised == (way.replace("os.", f"{os.name}."),)  # os.system pickles as posix.system or nt.system
    assert list(file.tensors) == ["weight"] and torch.equal(file.tensors["weight"], weight)
    assert file.bookkeeping["epoch"] == "3"
    torch.load(path, weights_only=False)  # the trap is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (b"cbuiltins\neval\n(X\x04\x00\x00\x001//0tR", ("builtins.eval",)),
        (b"cbuiltins\ngetattr\n(cos\npath\nX\x04\x00\x00\x00jointR(X\x01\x00\x00\x00atR", ("builtins.getattr", "os.path")),
        (b"cfunctools\npartial\n(cbuiltins\nprint\ntR(X\x01\x00\x00\x00atR", ("functools.partial", "builtins.print")),
        (
            b"ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nexec\nNNNtR",
            ("torch._tensor._rebuild_from_type_v2", "builtins.exec"),
        ),
        (b"ctorch._utils\n_rebuild_from_type_v2\n(NNNNtR", ("torch._utils._rebuild_from_type_v2",)),
        # protocol 4 follows dots in a name; here they lead nowhere, even from an allowed module or class
        (b"\x8c\x05torch\x8c\x0dhub.os.system\x93(\x8c\x01atR", ("torch.hub.os.system",)),
        (b"\x8c\x0bcollections\x8c\x16OrderedDict.fromkeys.x\x93)R", ("collections.OrderedDict.fromkeys.x",)),
        # every way to make or fill an object: NEWOBJ, NEWOBJ_EX, INST, OBJ, BUILD, APPENDS, SETITEMS, ADDITEMS
        (b"cos\npopen\n)\x81}X\x01\x00\x00\x00aK\x01sb", ("os.popen",)),
        (b"cos\npopen\n)}\x92", ("os.popen",)),
        (b"(ios\npopen\n", ("os.popen",)),
        (b"(cos\npopen\no", ("os.popen",)),
        (b"cos\npopen\n)R(K\x01K\x02e", ("os.popen",)),
        (b"cos\npopen\n)RK\x01a", ("os.popen",)),
        (b"cos\npopen\n)R(K\x01K\x02u", ("os.popen",)),
        (b"cos\npopen\n)R(K\x01K\x02\x90", ("os.popen",)),
        (b"cos\npopen\n)R)R)R", ("os.popen",)),
        (b"}cos\npopen\nK\x01s", ("os.popen",)),  # the class as a key, as Lightning's callbacks
        (b"}cos\npopen\n)RK\x01s", ("os.popen",)),
        (b"cbuiltins\nset\n(cos\npopen\n)RtR", ("os.popen",)),
        (b"ctorch\nbogus\x1b[31m\n", ("torch.bogus?[31m",)),  # nothing in a name reaches the terminal as a command
    ],
)
def test_every_other_global_is_inert(tmp_path, program, names):
    pickled = tensor_program()
    both = b"\x80\x04}(X\x0a\x00\x00\x00state_dict" + pickled[2:-1] + b"X\x01\x00\x00\x00x" + program + b"u."
    path = write_zip(tmp_path / "model.ckpt", both, {"0": SIX})
    file = open_tensor_file(path)
    assert file.neutralised == names
    assert file.tensors["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_name_is_reported_once(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"w": torch.ones(2), "x": [functools.partial(print), functools.partial(len)]}, path)
    assert open_tensor_file(path).neutralised == ("functools.partial", "builtins.print", "builtins.len")


@pytest.mark.parametrize(
    "target",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch\nSize\n",
    ],
)
@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86"])
def test_what_a_pickle_may_name_cannot_be_changed_by_it(tmp_path, target, state):
    path = write_zip(tmp_path / "model.ckpt", b"\x80\x02" + target + state + b"b.", {})
    with pytest.raises(ModelFileError, match="truncated or damaged") as caught:
        open_tensor_file(path)
    assert isinstance(caught.value.__cause__, AttributeError | TypeError)


def test_an_ordered_dict_with_methods_of_its_own_is_still_read_as_data(tmp_path):
    ordered = b"ccollections\nOrderedDict\n)R" + tensor_program()[3:-1]  # without the pickle's own head and end
    names = (b"X" + struct.pack("<I", len(name)) + name.encode() for name in ("items", "get", "values", "__setstate__"))
    methods = b"}(" + b"".join(name + b"cos\nsystem\n" for name in names) + b"u"
    pickled = b"\x80\x02" + ordered + methods + b"b."
    file = open_tensor_file(write_zip(tmp_path / "model.ckpt", pickled, {"0": SIX}))
    assert file.tensors["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert file.neutralised == ("os.system",)


# ------------------------------------------------------------------------------------------------ real files are read


def test_the_golden_checkpoint_with_its_callback_class(golden_checkpoint, golden_state_dict):
    file = open_tensor_file(golden_checkpoint)
    assert file.format == "pickle" and file.path == golden_checkpoint and file.metadata == {}
    assert file.neutralised == ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
    assert file.bookkeeping["global_step"] == "470000"
    assert set(file.bookkeeping) == {"epoch", "global_step", "pytorch-lightning_version"}
    assert list(file.tensors) == list(golden_state_dict)
    for name, tensor in golden_state_dict.items():
        found = file.tensors[name]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor), name


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.bool, torch.float8_e4m3fn, torch.uint16),
]


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_equal_those_of_torch_load(tmp_path, legacy):
    storage = torch.randn(7, 5)
    tensors = {str(dtype): torch.arange(2, 9).to(dtype) for dtype in DTYPES if not (legacy and dtype in DTYPES[-2:])}
    tensors |= {
        "transposed": storage.t(),
        "view": storage[2:4, 1:3],
        "tied": storage,
        "scalar": torch.tensor(4.5),
        "empty": torch.empty(0, 3),
        "expanded": torch.ones(1).expand(4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    path = tmp_path / "weights.bin"
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = open_tensor_file(path)
    expected = torch.load(path, weights_only=not legacy)
    assert file.neutralised == ()
    assert list(file.tensors) == list(expected)
    for name, tensor in expected.items():
        found = file.tensors[name]
        assert (found.dtype, found.shape, found.stride()) == (tensor.dtype, tensor.shape, tensor.stride()), name
        assert torch.equal(found.float(), tensor.float()), name
        assert not found.requires_grad
    assert file.tensors["view"].untyped_storage().data_ptr() == file.tensors["tied"].untyped_storage().data_ptr()


def write_legacy(path: Path, program: bytes, storages: dict[str, bytes]) -> Path:
    """The sequence of pickles of torch before 1.6, then each storage with the number of its elements before it."""
    parts = [
        LEGACY_START,
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
        program,
        pickle.dumps(list(storages), 2),
    ]
    parts += [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def test_a_storage_that_is_part_of_another(tmp_path):
    # Old versions of torch described it as (key, first element, number of elements) behind the storage it is part of.
    view = b"(X\x01\x00\x00\x00vK\x02K\x04t"
    path = write_legacy(tmp_path / "model.pth", tensor_program(size=(2, 2), stride=(2, 1), view=view), {"0": SIX})
    assert open_tensor_file(path).tensors["weight"].tolist() == [[2, 3], [4, 5]]
    path = write_legacy(tmp_path / "model.pth", tensor_program(view=view), {"0": SIX})
    with pytest.raises(ModelFileError, match="offset 2 reach element 7 of 6"):
        open_tensor_file(path)


def test_an_old_file_that_ends_inside_its_numbers(tmp_path):
    path = write_legacy(tmp_path / "model.pth", tensor_program(), {"0": SIX})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"truncated or damaged \(EOFError: storage 0 ends at byte") as caught:
        open_tensor_file(path)
    assert isinstance(caught.value.__cause__, EOFError)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (pickle.dumps(1002, 2) + pickle.dumps({"little_endian": True}, 2), "protocol 1002, expected 1001"),
        (pickle.dumps(1001, 2) + pickle.dumps({"little_endian": False}, 2), "written with big-endian numbers"),
    ],
)
def test_old_files_of_other_makes(tmp_path, start, message):
    path = tmp_path / "model.pth"
    path.write_bytes(LEGACY_START + start + tensor_program() + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + SIX)
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert message in caught.value.text


@pytest.mark.parametrize("legacy", [False, True])
def test_writing_into_a_tensor_leaves_the_file_alone(tmp_path, legacy):
    path = tmp_path / "weights.ckpt"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=not legacy)
    before = path.read_bytes()
    open_tensor_file(path).tensors["w"].zero_()
    assert path.read_bytes() == before
    assert open_tensor_file(path).tensors["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "optimizer_states": [torch.ones(9)]},
        lambda weights: {"model": weights, "best": torch.ones(1)},
        lambda weights: {"model": {"state_dict": weights}, "optimizer": {"state": {0: torch.ones(1)}}},
        lambda weights: {"state_dict": {"module": weights}},
    ],
)
def test_the_state_dict_is_found(tmp_path, wrap):
    path = tmp_path / "model.pt"
    torch.save(wrap(OrderedDict(a=torch.ones(2), b=torch.zeros(3))), path)
    assert list(open_tensor_file(path).tensors) == ["a", "b"]


def test_plain_values_become_bookkeeping_and_the_rest_is_left_out(tmp_path):
    path = tmp_path / "model.ckpt"
    odd = torch.ones(2)
    odd.note = "an attribute makes torch pickle it as a call of another function"
    content = {
        **{"global_step": 500, "lr": 1e-6, "note": "line\nbreak", "done": True, "loops": {"a": 1}, "nothing": None},
        "state_dict": {"w": torch.ones(1), "scale": 0.5, "odd": odd},
    }
    torch.save(content, path)
    file = open_tensor_file(path)
    assert list(file.tensors) == ["w"]
    assert file.bookkeeping == {
        **{"global_step": "500", "lr": "1e-06", "note": "line?break", "done": "True", "scale": "0.5"},
        "odd": "left out: an object of torch._tensor._rebuild_from_type_v2",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"string_to_param": {"*": torch.ones(2)}, "name": "x"}, "its keys are 'string_to_param', 'name'"),
        ({}, "it contains an empty dictionary"),
        (torch.ones(3), "it contains a single tensor"),
        ([torch.ones(3)], "it contains a list"),
        (functools.partial(print), "it contains an object of the Python class functools.partial, which is never loaded"),
    ],
)
def test_a_torch_file_without_weights_says_what_it_holds(tmp_path, content, message):
    path = tmp_path / "model.ckpt"
    torch.save(content, path)
    with pytest.raises(ModelFileError, match="no model weights in this torch file") as caught:
        open_tensor_file(path)
    assert message in caught.value.text


# ------------------------------------------------------------------------------------------ damaged and hostile files


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"stride": (4, 1)}, "reach element 6 of 6"),
        ({"size": (2, 4)}, "reach element 6 of 6"),
        ({"offset": 1}, "reach element 6 of 6"),
        ({"stride": (2**61, 2**61)}, "reach element"),
        ({"size": (2**62, 2**62), "stride": (0, 0)}, "reach element 0 of 6"),
        ({"size": (2,)}, "not two tuples of one length"),
        ({"offset": -1}, "not all whole numbers from 0 up"),
        ({"stride": (-3, 1)}, "not all whole numbers from 0 up"),
        ({"size": (2, True)}, "not all whole numbers from 0 up"),
        ({"size": (2, "3")}, "not all whole numbers from 0 up"),
        ({"numel": 7}, "7 elements of torch.float32 are declared, but there are only 24 bytes"),
        ({"numel": -1}, "not all whole numbers from 0 up"),
        ({"storage": b"ctorch\nDoubleStorage\n"}, "6 elements of torch.float64 are declared"),
        ({"key": "../../secret"}, "needs the storage '../../secret', which is missing"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, numbers, message):
    path = write_zip(tmp_path / "model.ckpt", tensor_program(**numbers), {"0": SIX, "1": SIX})
    with pytest.raises(ModelFileError, match="'weight'") as caught:
        open_tensor_file(path)
    assert message in caught.value.text


def test_all_bad_tensors_are_named_together(tmp_path):
    one = tensor_program(offset=9)[:-1]
    other = tensor_program(key="missing")[2:-1].replace(b"weight", b"height")[1:]
    path = write_zip(tmp_path / "model.ckpt", one + other + b".", {"0": SIX})
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert len(caught.value.problems) == 2 and "'weight'" in caught.value.text and "'height'" in caught.value.text


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02}",
        b".",
        b"0000000000.",  # pops of an empty stack
        b"\x80\x02" + b"(" * 100_000 + b".",  # marks without end
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",  # a list 100,000 deep
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.",  # bytes without end
        b"\x80\x02cos\nsystem\nK\x01b.",  # state set on a class
        b"\x80\xffN.",
        b"\x80\x02}]K\x01s.",  # a list as a key
        bytes(range(255, 0, -1)),
    ],
)
def test_a_damaged_pickle_becomes_our_error_with_its_cause(tmp_path, pickled):
    path = write_zip(tmp_path / "model.ckpt", pickled, {"0": SIX})
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert str(path) in caught.value.text and caught.value.hint is not None
    assert caught.value.__cause__ is not None or "no model weights" in caught.value.text


def test_a_memo_of_a_hundred_million_entries_is_not_made(tmp_path):
    pickled = b"\x80\x02Nr" + struct.pack("<I", 100_000_000) + b"."  # 1.5 GB and seven seconds for the unpickler
    path = write_zip(tmp_path / "model.ckpt", pickled, {})
    with pytest.raises(ModelFileError, match="memo number 100000000 in a pickle of 9 bytes"):
        open_tensor_file(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_anywhere_or_with_changed_bytes_never_ends_otherwise(tmp_path, legacy):
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"a": torch.ones(40), "b": torch.zeros(3, 3)}}, whole, _use_new_zipfile_serialization=not legacy)
    data = whole.read_bytes()
    path = tmp_path / "model.ckpt"
    numbers = torch.Generator().manual_seed(1)
    cuts = [*range(1, 60), *range(60, len(data) - 1, 13)]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(ModelFileError):
            open_tensor_file(path)
    for _ in range(200):
        changed = bytearray(data)
        for place in torch.randint(len(data), (3,), generator=numbers).tolist():
            changed[place] = int(torch.randint(256, (), generator=numbers))
        path.write_bytes(changed)
        with contextlib.suppress(ModelFileError):
            open_tensor_file(path)


def test_a_truncated_download_says_so(tmp_path, golden_checkpoint):
    path = tmp_path / "model.ckpt"
    data = golden_checkpoint.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match="as after an interrupted download") as caught:
        open_tensor_file(path)
    assert f"{len(data) // 2:,} bytes" in caught.value.text
    assert "compare its size" in caught.value.text and isinstance(caught.value.__cause__, zipfile.BadZipFile)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "'data.pkl' in it is compressed"),
        ({"byteorder": b"big"}, "written with big-endian numbers; this machine is little-endian"),
        ({"constants.pkl": b"x"}, "a TorchScript program, not a checkpoint"),
    ],
)
def test_torch_archives_that_cannot_be_mapped(tmp_path, options, message):
    path = write_zip(tmp_path / "model.ckpt", tensor_program(), {"0": SIX}, **options)
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert message in caught.value.text and caught.value.hint is not None


def test_an_encrypted_entry_is_refused(tmp_path):
    path = write_zip(tmp_path / "model.ckpt", tensor_program(), {"0": SIX})
    data = bytearray(path.read_bytes())
    flags = data.index(b"PK\x01\x02") + 8  # in the table of contents, whose first entry is data.pkl
    data[flags] |= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"'data.pkl' in it is encrypted"):
        open_tensor_file(path)


def test_an_entry_outside_the_file_is_refused(tmp_path):
    path = write_zip(tmp_path / "model.ckpt", tensor_program(), {"0": SIX})
    data = bytearray(path.read_bytes())
    data[-6:-2] = b"\xfe\xff\xff\xff"  # where the table of contents is said to begin: every entry moves below zero
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"'data.pkl' is not where the archive says"):
        open_tensor_file(path)


def test_an_archive_of_something_else(tmp_path):
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/unet/config.json", "{}")
    with pytest.raises(ModelFileError, match=r"a zip archive not written by torch: it contains 'model/unet/config.json'"):
        open_tensor_file(path)


def test_text_of_a_file_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\n\u202e") == "a?[2Jb??"
    assert len(printable("x" * 10_000)) == 203


# ---------------------------------------------------------------------------------------------------------- memory

MEASURE = """
import re, sys
from pathlib import Path
from dreambooth.weights.containers import open_tensor_file

def mebibytes(name):  # ru_maxrss would begin with what the parent had
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def peak():
    return mebibytes("VmHWM")

before = mebibytes("VmRSS")
file = open_tensor_file(Path(sys.argv[1]))
opened = peak() - before
float(file.tensors["3"].sum())
one = peak() - before
for tensor in file.tensors.values():
    float(tensor.sum())
print(opened, one, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_only_what_is_touched_costs_memory(tmp_path):
    path = tmp_path / "model.ckpt"
    tensors = {str(number): torch.full((5 * 2**20,), float(number)) for number in range(10)}  # 20 MiB each
    torch.save({"state_dict": tensors, "optimizer_states": [torch.ones(25 * 2**20)]}, path)  # 100 MiB more
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    opened, one, everything = (float(number) for number in printed.split())
    assert opened < 20
    assert 20 <= one < 20 * 1.3 + 20  # MiB; 20 for what the interpreter itself takes meanwhile
    assert 200 <= everything < 200 * 1.3
