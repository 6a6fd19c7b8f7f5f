"""The wires behind the demo server, for tests: below ``/_control``, beside the origin and never part of it.

=====================================  ==============================================================================
``GET POST DELETE /faults``            what is switched on; one more (a document of `faults`, or a list); all off
``GET DELETE /requests``               every request since the last DELETE, oldest first (`requestlog`)
``GET POST /behaviour``                the members of `answers.Behaviour`
``POST /revoke`` ``POST /restore``     ``{"token": …}``
``POST /instances``                    ``{"like": UID, …}`` of `editing.add_instance`
``POST /files``                        a DICOM file as the body; linked to nothing
``DELETE /instances/{uid}``            the PACS loses it
``POST /link`` ``POST /unlink``        ``{"source": …, "study": UID, "series": UID or null}``
``POST /albums``                       ``{"name": …, "sub": …, "created_time": …}``: a new album
``POST DELETE /albums/{a}``            change members of the album, for example its name; delete it
``GET /library?study=UID&sha256=1``    every study, series and instance with delivered size and who holds it
=====================================  ==============================================================================

What goes wrong is 400 and a sentence in JSON. A handler that returns nothing gives 204.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from kheopsfs.demo import editing
from kheopsfs.demo.app import Kheops
from kheopsfs.demo.editing import UnknownNameError
from kheopsfs.demo.faults import Fault
from kheopsfs.demo.library import Study
from kheopsfs.demo.requestlog import RequestLog

PREFIX = "/_control"

_Handler = Callable[..., Any]


class Control:
    """A Kheops whose requests are logged and whose world can be changed while it serves."""

    def __init__(self, kheops: Kheops) -> None:
        self.kheops = kheops
        self.log = RequestLog(kheops)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take what is below the prefix and pass the rest on."""
        if scope["type"] != "http":
            return
        if not scope["path"].startswith(PREFIX):
            await self.log(scope, receive, send)
            return
        request = Request(scope, receive)
        response = self._respond(request, await request.body())
        await response(scope, receive, send)

    def _respond(self, request: Request, body: bytes) -> Response:
        path = request.scope["path"].removeprefix(PREFIX)
        for method, pattern, handler in _HANDLERS:
            if method == request.method and (match := pattern.fullmatch(path)):
                try:
                    result = handler(self, request, body, *match.groups())
                except (ValueError, TypeError, UnknownNameError) as error:
                    return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
                if method != "GET":
                    self.kheops.library.changed()
                return Response(status_code=204) if result is None else JSONResponse(result)
        return JSONResponse({"error": "no such control"}, 404)


def _document(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("the document is no object")
    return document


def _get_faults(control: Control, _: Request, __: bytes) -> Any:
    return control.kheops.faults.describe()


def _post_faults(control: Control, _: Request, body: bytes) -> None:
    document = json.loads(body)
    for fault in [Fault.parse(one) for one in (document if isinstance(document, list) else [document])]:
        control.kheops.faults.add(fault)


def _delete_faults(control: Control, _: Request, __: bytes) -> None:
    control.kheops.faults.clear()


def _get_requests(control: Control, _: Request, __: bytes) -> Any:
    return control.log.entries


def _delete_requests(control: Control, _: Request, __: bytes) -> None:
    control.log.entries.clear()


def _get_behaviour(control: Control, _: Request, __: bytes) -> Any:
    return dataclasses.asdict(control.kheops.behaviour)


def _post_behaviour(control: Control, _: Request, body: bytes) -> None:
    control.kheops.behaviour = dataclasses.replace(control.kheops.behaviour, **_document(body))


def _post_revoke(control: Control, _: Request, body: bytes) -> None:
    editing.token(control.kheops, _document(body)).revoked = True


def _post_restore(control: Control, _: Request, body: bytes) -> None:
    editing.token(control.kheops, _document(body)).revoked = False


def _post_instances(control: Control, _: Request, body: bytes) -> Any:
    return editing.add_instance(control.kheops, _document(body))


def _post_files(control: Control, _: Request, body: bytes) -> Any:
    return editing.add_file(control.kheops, body)


def _delete_instance(control: Control, _: Request, __: bytes, uid: str) -> None:
    editing.remove_instance(control.kheops, uid)


def _post_link(control: Control, _: Request, body: bytes) -> None:
    editing.link(control.kheops, _document(body))


def _post_unlink(control: Control, _: Request, body: bytes) -> None:
    editing.unlink(control.kheops, _document(body))


def _post_albums(control: Control, _: Request, body: bytes) -> Any:
    return {"album_id": editing.add_album(control.kheops, _document(body)).album_id}


def _post_album(control: Control, _: Request, body: bytes, album_id: str) -> None:
    editing.change_album(control.kheops, album_id, _document(body))


def _delete_album(control: Control, _: Request, __: bytes, album_id: str) -> None:
    editing.remove_album(control.kheops, album_id)


def _get_library(control: Control, request: Request, _: bytes) -> Any:
    wanted, checksums = request.query_params.get("study"), request.query_params.get("sha256") == "1"
    found = [study for uid, study in control.kheops.library.studies.items() if wanted in (None, uid)]
    return [_describe(control.kheops, study, checksums=checksums) for study in found]


def _describe(kheops: Kheops, study: Study, *, checksums: bool) -> dict[str, Any]:
    return {
        "StudyInstanceUID": study.StudyInstanceUID,
        "attributes": study.attributes,
        "series": [
            {
                "SeriesInstanceUID": series.SeriesInstanceUID,
                "Modality": series.modality,
                "attributes": series.attributes,
                "sources": [name for name, holdings in editing.holders(kheops).items() if series in holdings],
                "instances": [
                    {
                        "SOPInstanceUID": one.SOPInstanceUID,
                        "SOPClassUID": one.text("00080016"),
                        "TransferSyntaxUID": one.TransferSyntaxUID,
                        "InstanceNumber": one.text("00200013"),
                        "frames": one.frames,
                        "size": one.body.size,
                        **({"sha256": one.body.sha256()} if checksums else {}),
                    }
                    for one in series.instances.values()
                ],
            }
            for series in study.series.values()
        ],
    }


_HANDLERS: tuple[tuple[str, re.Pattern[str], _Handler], ...] = tuple(
    (method, re.compile(path), handler)
    for method, path, handler in (
        ("GET", "/faults", _get_faults),
        ("POST", "/faults", _post_faults),
        ("DELETE", "/faults", _delete_faults),
        ("GET", "/requests", _get_requests),
        ("DELETE", "/requests", _delete_requests),
        ("GET", "/behaviour", _get_behaviour),
        ("POST", "/behaviour", _post_behaviour),
        ("POST", "/revoke", _post_revoke),
        ("POST", "/restore", _post_restore),
        ("POST", "/instances", _post_instances),
        ("POST", "/files", _post_files),
        ("DELETE", "/instances/([0-9.]+)", _delete_instance),
        ("POST", "/link", _post_link),
        ("POST", "/unlink", _post_unlink),
        ("POST", "/albums", _post_albums),
        ("POST", "/albums/([A-Za-z0-9]+)", _post_album),
        ("DELETE", "/albums/([A-Za-z0-9]+)", _delete_album),
        ("GET", "/library", _get_library),
    )
)
