"""The wires behind the demo server, for tests: below ``/_control``, beside the origin and never part of it.

=====================================  ==============================================================================
``GET POST DELETE /faults``            what is switched on; one more (a document of `faults`, or a list); all off
``GET DELETE /requests``               every request since the last DELETE, oldest first
``GET POST /behaviour``                the members of `answers.Behaviour`
``POST /revoke  /restore``             ``{"token": …}``
``POST /instances``                    ``{"like": UID, …}`` of `editing.add_instance`, or a DICOM file as the body
``DELETE /instances/{uid}``            the PACS loses it
``POST /link  /unlink``                ``{"source": …, "study": UID, "series": UID or null}``
``POST /albums`` ``POST DELETE …/{a}``  ``{"name": …, "sub": …, "created_time": …}``; change members of it; delete it
``GET /library?study=UID&sha256=1``    every study, series and instance with delivered size and who holds it
=====================================  ==============================================================================

The log never holds a token: requests name the token by its id.
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from kheopsfs.demo import editing, routing
from kheopsfs.demo.app import Kheops, secret_of
from kheopsfs.demo.credentials import BadBase64Error, presented
from kheopsfs.demo.faults import Fault
from kheopsfs.demo.library import Study

PREFIX = "/_control"


class Control:
    """A Kheops whose requests are counted and whose world can be changed."""

    def __init__(self, kheops: Kheops) -> None:
        self._kheops = kheops
        self._requests: list[dict[str, Any]] = []
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take what is below the prefix, pass the rest on and write it down."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            request = Request(scope, receive)
            try:
                response = await self._control(request)
            except (KeyError, StopIteration, ValueError, TypeError, AttributeError) as error:
                response = JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
            await response(scope, receive, send)
        elif scope["type"] == "http":
            await self._logged(scope, receive, send)

    async def _logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry = self._entry(Request(scope))
        self._requests.append(entry)
        self._in_flight += 1

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                entry["bytes"] += len(message["body"])
                entry["complete"] = not message["more_body"]

        try:
            await self._kheops(scope, receive, counting)
        finally:
            self._in_flight -= 1
            entry["ended"] = time.monotonic()

    def _entry(self, request: Request) -> dict[str, Any]:
        link = routing.link(request.url.path)
        secret = secret_of(request)
        viewer = self._kheops.accounts.viewers.get(secret or "")
        token = viewer.parent if viewer else self._kheops.accounts.tokens.get(secret or "")
        kind = "viewer" if viewer else token.kind if token else "unknown" if secret else "none"
        return {
            "method": request.method,
            "path": link.path if link else request.url.path,
            "query": request.url.query,
            "auth": "link" if link else _way(request),
            "token": kind,
            "token_id": token.token_id if token else None,
            "accept": request.headers.get("accept"),
            "accept_encoding": request.headers.get("accept-encoding"),
            "range": request.headers.get("range"),
            "status": None,
            "bytes": 0,
            "complete": False,
            "in_flight": self._in_flight + 1,
            "started": time.monotonic(),
            "ended": None,
        }

    async def _control(self, request: Request) -> Response:
        parts = request.url.path.removeprefix(PREFIX).strip("/").split("/")
        match request.method, *parts:
            case "GET", "faults":
                return JSONResponse(self._kheops.faults.describe())
            case "DELETE", "faults":
                self._kheops.faults.clear()
            case "GET", "requests":
                return JSONResponse(self._requests)
            case "DELETE", "requests":
                self._requests.clear()
            case "GET", "behaviour":
                return JSONResponse(dataclasses.asdict(self._kheops.behaviour))
            case "GET", "library":
                wanted, checksums = request.query_params.get("study"), request.query_params.get("sha256") == "1"
                found = [study for uid, study in self._kheops.library.studies.items() if wanted in (None, uid)]
                return JSONResponse([self._describe(study, checksums=checksums) for study in found])
            case "DELETE", "instances", uid:
                editing.remove_instance(self._kheops, uid)
                self._kheops.library.changed()
            case "DELETE", "albums", album_id:
                editing.remove_album(self._kheops, album_id)
                self._kheops.library.changed()
            case "POST", *what:
                answer = self._change(what, request.headers.get("content-type", ""), await request.body())
                self._kheops.library.changed()
                return answer
            case _:
                return JSONResponse({"error": "no such control"}, 404)
        return Response(status_code=204)

    def _change(self, what: list[str], media_type: str, body: bytes) -> Response:
        if what == ["instances"] and media_type == "application/dicom":
            return JSONResponse(editing.add_file(self._kheops, body, {}))
        document = json.loads(body or b"{}")
        match what:
            case ["faults"]:
                for one in document if isinstance(document, list) else [document]:
                    self._kheops.faults.add(Fault.parse(one))
            case ["behaviour"]:
                self._kheops.behaviour.__dict__.update(
                    dataclasses.asdict(dataclasses.replace(self._kheops.behaviour, **document))
                )
            case ["revoke"]:
                self._kheops.accounts.tokens[document["token"]].revoked = True
            case ["restore"]:
                self._kheops.accounts.tokens[document["token"]].revoked = False
            case ["instances"]:
                return JSONResponse(editing.add_instance(self._kheops, document.pop("like"), document))
            case ["link"]:
                editing.link(self._kheops, document["source"], document["study"], document.get("series"))
            case ["unlink"]:
                editing.unlink(self._kheops, document["source"], document["study"], document.get("series"))
            case ["albums"]:
                album = editing.add_album(self._kheops, document["name"], document["sub"], document["created_time"])
                return JSONResponse({"album_id": album.album_id})
            case ["albums", album_id]:
                album = self._kheops.accounts.albums[album_id]
                for member, value in document.items():
                    if not hasattr(album, member):
                        raise KeyError(member)
                    setattr(album, member, value)
            case _:
                return JSONResponse({"error": "no such control"}, 404)
        return Response(status_code=204)

    def _describe(self, study: Study, *, checksums: bool) -> dict[str, Any]:
        return {
            "StudyInstanceUID": study.StudyInstanceUID,
            "attributes": study.attributes,
            "series": [
                {
                    "SeriesInstanceUID": series.SeriesInstanceUID,
                    "Modality": series.modality,
                    "attributes": series.attributes,
                    "sources": [name for name, holdings in self._holders() if series in holdings],
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

    def _holders(self) -> Iterator[tuple[str, Any]]:
        yield from ((sub, user.inbox) for sub, user in self._kheops.accounts.users.items())
        yield from ((album_id, album.holdings) for album_id, album in self._kheops.accounts.albums.items())


def _way(request: Request) -> str:
    try:
        return presented(request.headers.get("authorization"))[0]
    except BadBase64Error:
        return "basic"
