"""What a handler is given and what it returns; the same handler answers a browser in HTML and a program in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from dreambooth.errors import DreamboothError, RunError
from dreambooth.files import is_no_room
from dreambooth.pages.templates import Markup, render
from dreambooth.web.desk import Desk
from dreambooth.web.guard import API, TooLargeError
from dreambooth.web.places import shown_text
from dreambooth.web.projects import NoSuchError

__all__ = ["Answer", "Call", "Handler", "Moved", "Page", "answered", "refused"]

_PACKAGE = "dreambooth.web"
_PROBLEM = "problem.html"
_MOST_FILES = 220
_MOST_FIELDS = 2000
_NO_ROOM_STATUS = 507
_ODD_BYTE = re.compile("[\ud800-\udfff]")  # of a file's name that is not UTF-8


class _AsciiJson(JSONResponse):
    """JSON that holds names which are not UTF-8 as well, as Python's own does."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True)
class Call:
    """A request, read."""

    desk: Desk
    names: Mapping[str, str]
    """The parts of the path that stand for something."""
    query: Mapping[str, str]
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Sequence[UploadFile] = ()
    is_json: bool = False
    """Whether the values come from a JSON object and not from a form."""

    def value(self, name: str, otherwise: str = "") -> str:
        """The last value that the form posts under a name."""
        values = self.form.get(name, ())
        return values[-1] if values else otherwise


@dataclass(frozen=True)
class Page:
    """A template and the plain values that fill it; a program gets the values alone."""

    template: str
    values: Mapping[str, Any]
    status: int = 200
    drawn: Mapping[str, Markup] = field(default_factory=dict)
    """Charts, for the template alone."""


@dataclass(frozen=True)
class Moved:
    """Something was done; the browser is led to another page, a program is told its address and `values`."""

    to: str
    values: Mapping[str, Any] = field(default_factory=dict)


Answer: TypeAlias = Page | Moved | Response
Handler: TypeAlias = Callable[[Call], Answer]


async def answered(handler: Handler, request: Request) -> Response:
    """Read a request, call its handler in a thread, and write the answer in the form that the path asks for."""
    is_api = request.url.path.startswith(API)
    try:
        call = await _read(request)
        answer = await run_in_threadpool(handler, call)
    except TooLargeError:
        answer = Page(_PROBLEM, {"problems": ["The request is too large."], "hint": ""}, 413)
    except DreamboothError as error:
        is_absent = isinstance(error, RunError) and str(error.problems[0]).startswith("no ")
        is_in_path = isinstance(error, NoSuchError) or request.method == "GET"
        status = 404 if is_absent and is_in_path else 422
        answer = Page(_PROBLEM, {"problems": list(error.problems), "hint": error.hint or ""}, status)
    except OSError as error:  # a full disk, a read-only folder, a file that vanished
        answer = _disk_problem(error)
    finally:
        await request.close()  # and with it the files that were uploaded
    if isinstance(answer, Page) and answer.template == _PROBLEM:
        answer = _without_places(answer, request.app.state.desk)
    return _written(answer, is_api=is_api)


async def refused(request: Request, error: Exception) -> Response:
    """The answer to a route or a method that does not exist, in the form that the path asks for."""
    assert isinstance(error, HTTPException)
    problem = f"{request.method} {request.url.path}: {error.detail}"
    answer = Page(_PROBLEM, {"problems": [problem], "hint": ""}, error.status_code)
    return _written(answer, is_api=request.url.path.startswith(API))


def _written(answer: Answer, *, is_api: bool) -> Response:
    if isinstance(answer, Response):
        return answer
    if is_api:
        return _as_json(answer)
    if isinstance(answer, Moved):
        return RedirectResponse(answer.to, 303)
    html = render(answer.template, package=_PACKAGE, **answer.values, **answer.drawn)
    return HTMLResponse(_ODD_BYTE.sub("\N{REPLACEMENT CHARACTER}", html), answer.status)


def _without_places(answer: Page, desk: Desk) -> Page:
    """A problem whose paths are as a page shows them."""
    projects = desk.projects.folder
    problems = [shown_text(str(problem), projects=projects) for problem in answer.values["problems"]]
    return replace(answer, values={"problems": problems, "hint": shown_text(answer.values["hint"], projects=projects)})


def _disk_problem(error: OSError) -> Page:
    place = "" if error.filename is None else f"{error.filename}: "
    what = error.strerror or str(error)
    if is_no_room(error):
        problem, hint = f"{place}there is no room left on the disk ({what})", "Make room, and try again. Nothing was changed."
        return Page(_PROBLEM, {"problems": [problem], "hint": hint}, _NO_ROOM_STATUS)
    return Page(_PROBLEM, {"problems": [f"{place}{what}"], "hint": ""}, 500)


def _as_json(answer: Page | Moved) -> Response:
    if isinstance(answer, Moved):
        return _AsciiJson({"next": API + answer.to, **answer.values})
    return _AsciiJson(dict(answer.values), answer.status)


async def _read(request: Request) -> Call:
    desk: Desk = request.app.state.desk
    names = {name: str(value) for name, value in request.path_params.items()}
    form: dict[str, list[str]] = {}
    files: list[UploadFile] = []
    is_json = request.method == "POST" and request.headers.get("content-type", "").startswith("application/json")
    if is_json:
        form = _from_json(await request.body())
    elif request.method == "POST":
        posted = await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
        for name, value in posted.multi_items():
            if isinstance(value, str):
                form.setdefault(name, []).append(value)
            else:
                files.append(value)
    return Call(desk, names, dict(request.query_params), form, files, is_json)


def _from_json(body: bytes) -> dict[str, list[str]]:
    """A JSON object as a form: lists are several values, switches are true and false."""
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RunError("the body is not JSON") from error
    if not isinstance(values, dict):
        raise RunError("the body is not a JSON object")
    return {
        str(name): [_text(one) for one in (value if isinstance(value, list) else [value])] for name, value in values.items()
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
