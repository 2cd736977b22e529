"""Large files to and from the machine: download a base model, set a hub token, save the finished model elsewhere."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

from dreambooth.errors import ModelFileError
from dreambooth.files import atomic_file
from dreambooth.notebook.markup import note
from dreambooth.notebook.showing import Area, find_widgets, show
from dreambooth.notebook.uploads import safe_name

__all__ = ["ask_for_hub_token", "copy_to", "fetch", "offer_download"]

_CHUNK = 8 * 2**20
_SIGNS = 8
_SECONDS_TO_ANSWER = 60.0


def fetch(address: str, folder: str | Path) -> Path:
    """Download a model file from a URL into `folder`, unless it already exists; returns its path.

    Files from different URLs are kept in different subfolders, since many are called model.safetensors.
    Raises ModelFileError when the download fails, or when the URL returns a web page instead of a file.
    """
    parts = urlparse(address)
    name = safe_name(unquote(Path(parts.path).name))
    path = Path(folder) / hashlib.sha256(f"{parts.netloc}{parts.path}".encode()).hexdigest()[:_SIGNS] / name
    if path.is_file():
        show(note(f"{path} already exists."))
        return path
    area = Area(note(f"{name}: connecting"))
    request = Request(address, headers={"User-Agent": "dreambooth"})
    try:
        with urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer, atomic_file(path) as partial, partial.open("wb") as file:
            if answer.headers.get_content_type() == "text/html":
                raise ModelFileError(
                    f"{address}: returned a web page, not a file",
                    hint="Use the URL of the file itself; on the hub it contains /resolve/, not /blob/.",
                )
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                area.update(note(f"{name}: {done / 1e9:.2f} GB" + (f" of {total / 1e9:.2f} GB" if total else "")))
            if total and done < total:
                raise ModelFileError(
                    f"{address}: the download stopped after {done} of {total} bytes", hint="Run the cell again."
                )
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ModelFileError(
            f"{address}: could not be downloaded ({error})", hint="Check the URL and run the cell again."
        ) from error
    area.update(note(f"{path}: {path.stat().st_size / 1e9:.2f} GB"))
    return path


def ask_for_hub_token() -> None:
    """Show a field for a Hugging Face Hub token; the token stays in this kernel and is not saved in the notebook.

    Commands started later find it as HF_TOKEN. A token that is already in the environment works as well.
    """
    show(
        note(
            "A hub token is set."
            if os.environ.get("HF_TOKEN")
            else "No hub token is set; only models without a login can be downloaded."
        )
    )
    widgets = find_widgets()
    if widgets is None:
        return
    field, button = widgets.Password(description="Hub token"), widgets.Button(description="Set")

    def take(_: object) -> None:
        os.environ["HF_TOKEN"] = field.value.strip()
        field.value = ""  # otherwise the token would be saved with the state of the widgets
        button.description = "Token set"

    button.on_click(take)
    show(widgets.HBox([field, button]))


def offer_download(path: str | Path) -> None:
    """Offer a file for download: with Colab's own dialog there, elsewhere with a link to the notebook server."""
    file = Path(path)
    show(note(f"{file}: {file.stat().st_size / 1e9:.2f} GB"))
    if "google.colab" in sys.modules:
        importlib.import_module("google.colab.files").download(str(file))
        return
    from IPython.display import FileLink

    inside = os.path.relpath(file)
    if inside.startswith(os.pardir):
        show(note("The file is outside this notebook's folder, so the link may not work. If so, open its folder in the file"))
        show(note("browser on the left, right-click the file and choose Download, or copy it as described above."))
    show(FileLink(inside))


def copy_to(path: str | Path, folder: str | Path) -> Path:
    """Copy a file into another folder, such as a mounted drive, and return the new path. No partial file is left on failure."""
    source, destination = Path(path), Path(folder) / Path(path).name
    with atomic_file(destination) as partial:
        shutil.copyfile(source, partial)
    show(note(f"{destination}: {destination.stat().st_size / 1e9:.2f} GB"))
    return destination
