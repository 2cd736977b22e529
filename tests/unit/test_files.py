"""A reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path

import pytest

from dreambooth.files import (
    STALE_SECONDS,
    atomic_directory,
    atomic_file,
    is_no_room,
    link_or_copy,
    remove_leftovers,
    remove_stale,
    utf8_name,
    without_paths,
    write_json,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.bin"
    with atomic_file(path) as partial:
        partial.write_bytes(b"half")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_bytes() == b"half"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.bin"]


def test_in_a_shared_folder_only_what_is_old_was_left_by_a_killed_program(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.png.partial-0123456789ab", tmp_path / ".b.png.partial-claim"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, time.time() - STALE_SECONDS - 1))
    remove_stale(tmp_path)
    remove_stale(tmp_path / "nowhere")
    assert [*tmp_path.iterdir()] == [new]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="disk"), atomic_file(path) as partial:
        partial.write_bytes(b"new")
        raise RuntimeError("disk")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.bin"]


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with atomic_directory(path) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "state").write_text("1", encoding="utf-8")
        assert not path.exists()
    assert (path / "inner" / "state").read_text(encoding="utf-8") == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "checkpoint") as partial:
        (partial / "state").write_text("1", encoding="utf-8")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_published_folder_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(FileExistsError, match="checkpoint"), atomic_directory(tmp_path / "checkpoint"):
        pass


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.bin.partial-0123456789ab").write_bytes(b"half")
    (tmp_path / ".checkpoint.partial-0123456789ab").mkdir()
    (tmp_path / ".hidden").write_bytes(b"kept")
    (tmp_path / "model.partial-x").write_bytes(b"kept")
    assert remove_leftovers(tmp_path) == [".checkpoint.partial-0123456789ab", ".model.bin.partial-0123456789ab"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden", "model.partial-x"]
    assert remove_leftovers(tmp_path / "nowhere") == []


def test_leftovers_deep_in_a_folder_are_removed_when_asked_for(tmp_path: Path) -> None:
    inside = tmp_path / "previews" / "step-000000"
    inside.mkdir(parents=True)
    (inside / ".00-dog.png.partial-0123456789ab").write_bytes(b"half")
    assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path, is_deep=True) == [".00-dog.png.partial-0123456789ab"]
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_what_does_not_fit_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(OSError, match="the disk") as caught, atomic_file(tmp_path / "model.bin"):
        raise OSError(number, "the disk")
    assert (caught.value.filename, is_no_room(caught.value)) == (str(tmp_path / "model.bin"), True)
    with pytest.raises(OSError, match="the disk") as caught, atomic_directory(tmp_path / "step-000001") as partial:
        write_text(partial / "state.json", "{}")
        raise OSError(number, "the disk", str(partial / "weights"))
    assert caught.value.filename == str(tmp_path / "step-000001")


def test_what_does_not_fit_is_known_behind_another_error(tmp_path: Path) -> None:
    def save(number: int) -> None:
        try:
            raise OSError(number, "the disk")
        finally:
            raise RuntimeError("unexpected position")

    with pytest.raises(OSError, match="the disk") as caught, atomic_file(tmp_path / "model.ckpt"):
        save(errno.ENOSPC)
    assert (caught.value.filename, is_no_room(caught.value)) == (str(tmp_path / "model.ckpt"), True)
    with pytest.raises(RuntimeError, match="unexpected position"), atomic_file(tmp_path / "model.ckpt"):
        save(errno.EACCES)


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="may not") as caught, atomic_file(tmp_path / "model.bin"):
        raise PermissionError(errno.EACCES, "may not", "elsewhere")
    assert (caught.value.filename, is_no_room(caught.value)) == ("elsewhere", False)


def test_text_and_json_are_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "note.txt", "Füße\n")
    assert (tmp_path / "note.txt").read_bytes() == "Füße\n".encode()
    write_json(tmp_path / "note.json", {"name": "Füße", "sizes": [1, 2]})
    text = (tmp_path / "note.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Füße", "sizes": [1, 2]}
    assert "Füße" in text
    assert text.endswith("}\n")


def test_a_file_has_a_second_name_that_replaces_an_older_file(tmp_path: Path) -> None:
    source, destination = tmp_path / "model", tmp_path / "folder" / "last"
    source.write_text("new")
    destination.parent.mkdir()
    destination.write_text("old")
    link_or_copy(source, destination)
    assert destination.samefile(source)
    assert [path.name for path in destination.parent.iterdir()] == ["last"]


def test_where_there_are_no_second_names_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    source, destination = tmp_path / "model", tmp_path / "last"
    source.write_text("new")
    link_or_copy(source, destination)
    assert destination.read_text() == "new" and not destination.samefile(source)


def test_bytes_of_odd_names_survive(tmp_path: Path) -> None:
    value = {"photo \udce9 狗": ["\udc83"]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")  # valid UTF-8, for other programs
    assert json.loads(text) == value and "狗" in text
    write_text(tmp_path / "a.txt", "\udce9")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe9"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_a_name_for_libraries_that_take_only_utf8(tmp_path: Path) -> None:
    plain, odd = tmp_path / "狗", tmp_path / "\udce9"
    for path in (plain, odd):
        path.write_bytes(b"content")
        with utf8_name(path) as name:
            name.encode()
            assert Path(name).read_bytes() == b"content"
            assert (name == str(path)) == (path == plain)


def test_a_link_made_twice_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """Renaming one hard link of a file to another does nothing."""
    (tmp_path / "a").write_text("a", encoding="utf-8")
    for _ in range(2):
        link_or_copy(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_published_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clients" / "acme").mkdir(parents=True)
    told = {
        "model": "clients/acme",
        "hub": "owner/name",
        "prompt": "a dog / a cat\0",
        "long": "a/" * 5000,
        "file": Path("x/y.png"),
    }
    assert without_paths(told) == {**told, "model": "acme", "file": "y.png"}
