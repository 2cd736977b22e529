"""Large files to and from the machine: a base model from an address, a token for the hub, the finished model to take home."""

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
    """Download a model file from a web address into `folder`, unless it is there already; its path.

    Files of different addresses lie in different folders below it, since many are called model.safetensors.
    Raises ModelFileError when the address does not answer, or answers with a page and not with a file.
    """
    parts = urlparse(address)
    name = safe_name(unquote(Path(parts.path).name))
    path = Path(folder) / hashlib.sha256(f"{parts.netloc}{parts.path}".encode()).hexdigest()[:_SIGNS] / name
    if path.is_file():
        show(note(f"{path} is there already."))
        return path
    area = Area(note(f"{name}: asking"))
    request = Request(address, headers={"User-Agent": "dreambooth"})
    try:
        with urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer, atomic_file(path) as partial, partial.open("wb") as file:
            if answer.headers.get_content_type() == "text/html":
                raise ModelFileError(
                    f"{address}: answers with a page, not with a file",
                    hint="Give the address of the file itself; on the hub it has /resolve/ in it, not /blob/.",
                )
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                area.update(note(f"{name}: {done / 1e9:.2f} GB" + (f" of {total / 1e9:.2f} GB" if total else "")))
            if total and done < total:
                raise ModelFileError(f"{address}: broke off after {done} of {total} bytes", hint="Run the cell again.")
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ModelFileError(
            f"{address}: could not be downloaded ({error})", hint="Check the address and try again."
        ) from error
    area.update(note(f"{path}: {path.stat().st_size / 1e9:.2f} GB"))
    return path


def ask_for_hub_token() -> None:
    """Show a field for a token of the Hugging Face hub; what is typed stays in this kernel and is not saved in the notebook.

    The commands that are started from then on find it as HF_TOKEN. One that is in the environment already serves as well.
    """
    show(note("A hub token is set." if os.environ.get("HF_TOKEN") else "No hub token is set; only open models can be read."))
    widgets = find_widgets()
    if widgets is None:
        return
    field, button = widgets.Password(description="Hub token"), widgets.Button(description="Use it")

    def take(_: object) -> None:
        os.environ["HF_TOKEN"] = field.value.strip()
        field.value = ""  # a value that stays would be saved with the state of the widgets
        button.description = "Set"

    button.on_click(take)
    show(widgets.HBox([field, button]))


def offer_download(path: str | Path) -> None:
    """Offer a file for download: by Colab's own dialogue there, elsewhere by a link that the notebook's server serves."""
    file = Path(path)
    show(note(f"{file}: {file.stat().st_size / 1e9:.2f} GB"))
    if "google.colab" in sys.modules:
        importlib.import_module("google.colab.files").download(str(file))
        return
    from IPython.display import FileLink

    inside = os.path.relpath(file)
    if inside.startswith(os.pardir):
        show(note("It lies outside of this notebook's folder, so the server may not serve it: open its folder in the browser"))
        show(note("of files on the left, click the file with the right button and choose Download; or copy it, see below."))
    show(FileLink(inside))


def copy_to(path: str | Path, folder: str | Path) -> Path:
    """Copy a file into another folder, such as a mounted drive; complete or not at all. The copy's path."""
    source, destination = Path(path), Path(folder) / Path(path).name
    with atomic_file(destination) as partial:
        shutil.copyfile(source, partial)
    show(note(f"{destination}: {destination.stat().st_size / 1e9:.2f} GB"))
    return destination
