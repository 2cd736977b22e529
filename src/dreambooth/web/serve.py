"""`dreambooth web`: the server."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from dreambooth.display import Display
from dreambooth.errors import RunError, SettingsError
from dreambooth.runs.lock import exclusive
from dreambooth.web.settings import WebSettings

__all__ = ["tunnels", "web"]

_PACKAGES = {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
_SECONDS_TO_END = 2


def web(settings: WebSettings, display: Display) -> None:
    """Serve the browser interface until Ctrl-C; jobs go on without it.

    Raises SettingsError when a package is missing, the folder is a file or the address cannot be used, RunError when another
    server has the folder.
    """
    if missing := [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]:
        raise SettingsError(f"the browser interface needs {' and '.join(missing)}", hint="Type: pip install 'dreambooth[web]'")
    folder = settings.folder.expanduser().absolute()
    if in_the_way := next((place for place in (folder, *folder.parents) if place.is_file()), None):
        raise SettingsError(
            f"folder is {settings.folder}: {in_the_way} is a file, not a folder", hint="Choose another --folder."
        )
    with _only_server(folder / ".web"), closing(_listening(settings)) as listening:
        _serve(settings, display, listening)


def _serve(settings: WebSettings, display: Display, listening: socket.socket) -> None:
    import uvicorn

    from dreambooth.web.app import application
    from dreambooth.web.desk import Desk
    from dreambooth.web.guard import access_token, link

    folder = settings.folder.expanduser().absolute()
    token = access_token(folder / ".web" / "token")
    hosts = {settings.host, socket.gethostname(), *settings.allow_host, *_proxy_names(settings.port, os.environ)}
    desk = Desk.at(folder, settings.models, settings.runs.expanduser().absolute())
    desk.tidy()
    app = application(desk, token=token, hosts=hosts, port=settings.port)
    display.say(f"Open this link; keep it to yourself, it is the key:\n  {link(settings.host, settings.port, token)}")
    for line in tunnels(settings.port, token, os.environ):
        display.say(line)
    display.say(f"Projects are in {folder}. Ctrl-C ends the server; trainings go on, and it finds them again.")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def tunnels(port: int, token: str, environment: Mapping[str, str]) -> list[str]:
    """How to reach this machine from another one, as far as the environment tells where it is."""
    if pod := environment.get("RUNPOD_POD_ID"):
        address = f"https://{pod}-{port}.proxy.runpod.net/?token={token}"
        return [f"On RunPod, expose HTTP port {port}, start with --host 0.0.0.0, and open:\n  {address}"]
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in environment:
        window = f'google.colab.output.serve_kernel_port_as_window({port}, path="/?token={token}")'
        return [f"On Colab, run this in a cell:\n  from google.colab import output; {window.removeprefix('google.colab.')}"]
    if "SSH_CONNECTION" in environment:
        server = environment["SSH_CONNECTION"].split()[2:3]
        user = environment.get("USER", "user")
        place = server[0] if server else "SERVER"
        return [f"From your own computer, type this there first:\n  ssh -L {port}:127.0.0.1:{port} {user}@{place}"]
    return []


def _proxy_names(port: int, environment: Mapping[str, str]) -> list[str]:
    """The names by which the proxies of rented machines reach this port."""
    pod = environment.get("RUNPOD_POD_ID")
    return [f"{pod}-{port}.proxy.runpod.net"] if pod else []


def _listening(settings: WebSettings) -> socket.socket:
    """A socket that listens already, so that the printed link works at once. Raises SettingsError when it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        raise SettingsError(
            f"{settings.host}:{settings.port} cannot be used ({error.strerror or error})",
            hint="Another server may be running there; choose another --port or --host.",
        ) from error
    return listening


@contextmanager
def _only_server(folder: Path) -> Iterator[None]:
    """Hold the folder for one server: two queues would start the same job twice."""
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(folder))
        except RunError as error:
            raise RunError(
                f"{folder.parent}: another `dreambooth web` serves this folder",
                hint="Open its link, or choose another --folder.",
            ) from error
        yield
