"""The application: a table of routes, each of which answers a browser and, below /api/v1, a program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dreambooth.pages.templates import template_text
from dreambooth.web import (
    screen_blind,
    screen_import,
    screen_masks,
    screen_photos,
    screen_projects,
    screen_push,
    screen_results,
    screen_scores,
    screen_settings,
    screen_train,
    screen_try,
)
from dreambooth.web.answers import Handler, answered, refused
from dreambooth.web.desk import Desk
from dreambooth.web.guard import API, Guard
from dreambooth.web.live import LiveParts, live_stream

__all__ = ["ROUTES", "application"]

_SECONDS_BETWEEN_TICKS = 0.5
_P = "/projects/{project}"

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", screen_projects.projects),
    ("POST", "/projects", screen_projects.create),
    ("POST", "/demo", screen_projects.demo),
    ("GET", "/import", screen_import.imports),
    ("POST", "/import", screen_import.import_run),
    ("GET", "/jobs/{number:int}", screen_projects.job),
    ("POST", "/jobs/{number:int}/stop", screen_projects.stop_job),
    ("POST", "/jobs/{number:int}/pause", screen_projects.pause_for_pictures),
    ("GET", _P + "/photos", screen_photos.photos),
    ("POST", _P + "/photos", screen_photos.upload),
    ("GET", _P + "/photos/{photo}", screen_photos.picture),
    ("POST", _P + "/photos/{photo}/remove", screen_photos.remove),
    ("POST", _P + "/photos/{photo}/caption", screen_photos.set_caption),
    ("GET", _P + "/photos/{photo}/draw", screen_masks.draw),
    ("GET", _P + "/photos/{photo}/mask", screen_masks.mask),
    ("POST", _P + "/photos/{photo}/mask", screen_masks.set_mask),
    ("POST", _P + "/photos/{photo}/mask/remove", screen_masks.remove_mask),
    ("GET", _P + "/model", screen_settings.model),
    ("POST", _P + "/model/describe", screen_settings.describe),
    ("POST", _P + "/model/plan", screen_settings.plan),
    ("GET", _P + "/words", screen_settings.words),
    ("GET", _P + "/class-images", screen_settings.class_images),
    ("GET", _P + "/class-images/{photo}", screen_settings.class_image),
    ("GET", _P + "/settings", screen_settings.settings),
    ("POST", _P + "/settings", screen_settings.save),
    ("GET", _P + "/train", screen_train.train),
    ("POST", _P + "/train", screen_train.start),
    ("POST", _P + "/train/resume", screen_train.resume),
    ("POST", _P + "/train/save", screen_train.save_now),
    ("POST", _P + "/train/preview", screen_train.preview_now),
    ("GET", _P + "/runs/{run}/previews/{step:int}/{index:int}", screen_train.preview),
    ("GET", _P + "/choose", screen_results.choose),
    ("POST", _P + "/choose", screen_results.set_choice),
    ("POST", _P + "/score", screen_scores.score_now),
    ("GET", _P + "/choose/blind", screen_blind.blind),
    ("GET", _P + "/try", screen_try.pictures),
    ("POST", _P + "/try", screen_try.make),
    ("GET", _P + "/pictures/{set}/{which}/{index:int}", screen_try.made_picture),
    ("GET", _P + "/take", screen_results.take),
    ("POST", _P + "/take/convert", screen_results.convert),
    ("POST", _P + "/take/push", screen_push.check_push),
    ("POST", _P + "/take/push/publish", screen_push.publish),
    ("GET", _P + "/files/{file}", screen_results.download),
    ("GET", _P + "/files.zip", screen_results.download_all),
)
"""Method, path and handler of everything that can be asked for, besides the stream and the static files."""


def application(desk: Desk, *, token: str, hosts: Collection[str] = (), port: int = 7860) -> Starlette:
    """The whole application behind its guard; while it runs, it looks after the queue."""
    live = LiveParts(desk)

    async def stream(request: Request) -> Response:
        project = await run_in_threadpool(desk.projects.named, request.path_params["project"])
        return live_stream(live, project)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking_after = asyncio.create_task(_look_after(desk))
        yield
        looking_after.cancel()
        with suppress(asyncio.CancelledError):
            await looking_after

    routes = [
        Route("/static/{name}", _static),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/projects/{project}", lambda request: RedirectResponse(f"{request.url.path}/photos", 307)),
        Route("/projects/{project}/live", stream),
        *(
            Route(prefix + path, _endpoint(handler), methods=[method])
            for prefix in ("", API)
            for method, path, handler in ROUTES
        ),
    ]
    guard = Middleware(Guard, token=token, hosts=hosts, port=port)
    app = Starlette(routes=routes, middleware=[guard], lifespan=lifespan, exception_handlers={HTTPException: refused})
    app.state.desk = desk
    return app


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await answered(handler, request)

    return endpoint


async def _look_after(desk: Desk) -> None:
    while True:
        with suppress(OSError):  # such as a full disk: the next look may do better
            await run_in_threadpool(desk.queue.tick)
        await asyncio.sleep(_SECONDS_BETWEEN_TICKS)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    folder = files("dreambooth.web") / "static"
    if name == "style.css":
        text = template_text("page.css") + (folder / "style.css").read_text(encoding="utf-8")
        return Response(text, media_type="text/css")
    if name == "page.js":
        return Response((folder / "page.js").read_text(encoding="utf-8"), media_type="text/javascript")
    return Response(status_code=404)
