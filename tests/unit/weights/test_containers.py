"""A file is recognised by its first bytes; what is no model file is called by its name."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from dreambooth.errors import ModelFileError
from dreambooth.weights.containers import open_tensor_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265380512\n"


def message_for(path) -> str:
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert str(path) in caught.value.text
    return caught.value.text


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".png", ""])
def test_the_suffix_does_not_matter(tmp_path, suffix):
    for name, write in (
        ("zip", lambda path: torch.save({"a": torch.ones(2)}, path)),
        ("legacy", lambda path: torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)),
        ("safetensors", lambda path: save_file({"a": torch.ones(2)}, path)),
    ):
        path = tmp_path / f"{name}{suffix}"
        write(path)
        file = open_tensor_file(path)
        assert file.format == ("safetensors" if name == "safetensors" else "pickle")
        assert file.tensors["a"].tolist() == [1, 1]


def tar_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return stream.getvalue()


def empty_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w"):
        pass
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty (0 bytes)\nDownload the file itself again"),
        (b"<!DOCTYPE html>\n<html lang='en'>", "a web page, not a model file: the download failed or required a login"),
        (b"\xef\xbb\xbf\n  <html><head>", "a web page, not a model file"),
        (b"<html>" + "ä".encode() * 400, "a web page, not a model file"),
        (POINTER, f"a git-lfs pointer of {len(POINTER)} bytes, not the model file itself"),
        (POINTER, "Run `git lfs pull` in"),
        (b"Entry not found", 'a text file, not a model file; it begins with "Entry not found"'),
        (b'{"error": "Access denied"}', 'it begins with "{"error": "Access denied"}"'),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image, not a model file"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG image, not a model file"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP image, not a model file"),
        (tar_file(), "a tar archive, not a model file"),
        (empty_zip(), "an empty zip archive, not a model file"),
        (b"\x1f\x8b\x08\0" + bytes(20), "a gzip archive, not a model file"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7-Zip archive, not a model file"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (pickle.dumps({"a": 1}), "a Python pickle not written by torch.save"),
        (bytes(4096), "begins with zero bytes only, like an unfinished download"),
        (b"\x01", "not a known kind of model file; it begins with the bytes 01\nGive a .ckpt or .safetensors file"),
        (b"\xfe\xed" * 300, "it begins with the bytes fe ed fe ed fe ed fe ed"),
        (b"\xff" * 8 + b"{}", "not a known kind of model file"),
    ],
)
def test_what_is_no_model_file_is_called_by_its_name(tmp_path, content, message):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    assert message in message_for(path)


def test_random_bytes(tmp_path):
    numbers = torch.Generator().manual_seed(3)
    for size in (1, 7, 8, 9, 100, 5000):
        path = tmp_path / f"{size}.ckpt"
        path.write_bytes(bytes(torch.randint(256, (size,), generator=numbers).tolist()))
        message_for(path)


def test_what_is_no_file(tmp_path):
    assert "no such file" in message_for(tmp_path / "missing.ckpt")
    assert "is a folder; expected a single file" in message_for(tmp_path)
    link = tmp_path / "link.ckpt"
    link.symlink_to(tmp_path / "gone.ckpt")
    assert "a link to" in message_for(link) and "gone.ckpt, which does not exist" in message_for(link)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in message_for(pipe)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"PK\x03\x04")
    path.chmod(0)
    assert "cannot be read: Permission denied" in message_for(path)


def test_an_error_of_the_disk_is_translated(tmp_path, monkeypatch):
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(2)}, path)

    def fail(_, **kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dreambooth.weights.containers.read_torch_zip", fail)
    assert "cannot be read: Input/output error" in message_for(path)


def test_a_truncated_zip_of_every_length_names_the_file(tmp_path):
    whole = tmp_path / "whole.ckpt"
    torch.save({"a": torch.ones(300)}, whole)
    data = whole.read_bytes()
    path = tmp_path / "part.ckpt"
    for length in (4, 30, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:length])
        assert "central directory is missing or damaged" in message_for(path)
