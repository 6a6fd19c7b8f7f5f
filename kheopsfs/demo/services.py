"""The services behind nginx and their resources (Jersey's part: 404 for no resource, 405 for no such method).

What would write is answered 501: the demo server is for clients that only read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from kheopsfs.demo import albums, qido, studies, tokens, wado, wadouri, zipper
from kheopsfs.demo.answers import HTML, Answer, Call, ErrorAnswer, nginx, tomcat
from kheopsfs.demo.routing import Destination

_UID = "([0-9.]+)"
_STUDY = f"/api/studies/{_UID}"
_SERIES = f"{_STUDY}/series/{_UID}"
_INSTANCE = f"{_SERIES}/instances/{_UID}"

_CORS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Headers", "origin, content-type, accept, authorization"),
    ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS, HEAD, PATCH"),
]

_WRITES = frozenset({"POST", "PUT", "DELETE", "PATCH"})


@dataclass(frozen=True)
class _Resource:
    """A path and what answers it; the groups of the path are the handler's arguments."""

    path: re.Pattern[str]
    method: str
    handler: Callable[..., Answer]


def _get(path: str, handler: Callable[..., Answer]) -> _Resource:
    return _Resource(re.compile(path), "GET", handler)


def _post(path: str, handler: Callable[..., Answer]) -> _Resource:
    return _Resource(re.compile(path), "POST", handler)


def _refuses(methods: str, path: str) -> tuple[_Resource, ...]:
    return tuple(_Resource(re.compile(path), method, _refusal) for method in methods.split())


def _refusal(_: Call, *__: str) -> Answer:
    return tomcat(501)


_RESOURCES: dict[Destination, tuple[_Resource, ...]] = {
    Destination.AUTHORIZATION: (
        _get("/api/studies", studies.studies),
        _get(f"{_STUDY}/series", qido.series),
        _get(f"{_STUDY}/metadata", wado.study_metadata),
        _get(f"{_STUDY}/comments", albums.comments),
        _get("/api/albums", albums.listing),
        _get("/api/albums/([A-Za-z0-9]+)", albums.album),
        _get("/api/albums/([A-Za-z0-9]+)/users", albums.members),
        _get("/api/albums/([A-Za-z0-9]+)/events", albums.events),
        _get("/api/inboxinfo", albums.inbox),
        _get("/api/users", tokens.users),
        _get("/api/capabilities", tokens.user_only_by_login),
        _get("/api/capabilities/([A-Za-z0-9]+)", tokens.capability),
        _post("/api/token", tokens.exchange),
        _post("/api/token/introspect", tokens.introspect),
        *_refuses("PUT DELETE", f"{_STUDY}(?:/series/[0-9.]+)?(?:/(?:albums|users)/[^/]+|/favorites)?"),
        *_refuses("POST", f"{_STUDY}/(?:comments|fetch)"),
        *_refuses("POST", "/api/(?:albums|capabilities)"),
        *_refuses("PATCH DELETE", "/api/albums/([A-Za-z0-9]+)"),
        *_refuses("PUT DELETE", "/api/albums/([A-Za-z0-9]+)/(?:favorites|users/[^/]+)"),
    ),
    Destination.PROXY: (
        _get("/api/wado", wadouri.wado),
        *_refuses("POST", f"/api/studies|{_STUDY}"),
        _get(_STUDY, wado.study),
        _get(f"{_STUDY}/instances", qido.study_instances),
        _get(_SERIES, wado.series),
        _get(f"{_SERIES}/instances", qido.instances),
        _get(f"{_SERIES}/metadata", wado.series_metadata),
        _get(f"{_SERIES}/thumbnail", wado.series_thumbnail),
        _get(_INSTANCE, wado.instance),
        _get(f"{_INSTANCE}/metadata", wado.instance_metadata),
        _get(f"{_INSTANCE}/thumbnail", wado.instance_thumbnail),
        _get(f"{_INSTANCE}/frames/([0-9]+)", wado.frame),
        _get(f"{_INSTANCE}/frames/([0-9]+)/thumbnail", wado.instance_thumbnail),
        _get(f"{_INSTANCE}/bulkdata/([0-9A-Fa-f/]+)", wado.bulkdata),
    ),
    Destination.ZIPPER: (_get(_STUDY, zipper.study),),
}

_UI_PAGE = (
    b"<!doctype html><html><head><title>KHEOPS</title></head><body><h1>kheopsfs demo server</h1>"
    b"<p>Where a Kheops has its web pages. The interface is below /api.</p></body></html>"
)

_BAD_WADO = b"requestType must be WADO"


def answer(destination: Destination, call: Call) -> Answer:
    """What a service answers."""
    if destination is Destination.UI:
        return Answer(200, HTML, _UI_PAGE)
    if destination is Destination.NOT_FOUND:
        return nginx(404)
    if destination is Destination.NOT_ALLOWED:
        return nginx(405)
    if destination is Destination.BAD_WADO:
        return Answer(400, "application/octet-stream", _BAD_WADO)
    found = _resource(destination, call)
    if destination is not Destination.ZIPPER:
        found.headers += _CORS
    return found


def _resource(destination: Destination, call: Call) -> Answer:
    matching = [
        (resource, match)
        for resource in _RESOURCES[destination]
        if (match := resource.path.fullmatch(call.path)) is not None
    ]
    if call.method == "OPTIONS" and matching:
        return Answer(200, None, b"", [("Allow", ",".join({"OPTIONS", *(one.method for one, _ in matching)}))])
    method = "GET" if call.method == "HEAD" else call.method
    for resource, match in matching:
        if resource.method == method:
            try:
                return resource.handler(call, *match.groups())
            except ErrorAnswer as error:
                return error.answer
    if matching:
        return tomcat(405)
    return tomcat(405) if call.method in _WRITES else tomcat(404)
