"""An archive on a server and one mount of it, with studies that nobody has looked at."""

import os
import statistics
import time
from typing import Any

import httpx
from fault_matrix import Operation
from harness.looking import only, xattr
from harness.mounting import Mount
from harness.server import DemoServer
from operations import Place, compare, forget_pages

SLICES = 3
"""Instances of a series that is long enough to come in one request."""


class Ward:
    """An archive and a mount of it; `known` is a file that was read before anything failed."""

    def __init__(self, server: DemoServer, mount: Mount, written: dict[str, bytes], client: httpx.Client) -> None:
        self.server = server
        self.mount = mount
        self._client = client
        self._token = mount.token_file.read_text()
        books = {study["StudyInstanceUID"]: study["series"][0] for study in server.call("GET", "/library")}
        self._unused: dict[int, list[Place]] = {}
        for path in sorted((mount.path / "inbox").iterdir()):
            uid = xattr(path, "dicom.StudyInstanceUID")
            instances = [one["SOPInstanceUID"] for one in books[uid]["instances"]]
            place = Place(
                uid, books[uid]["SeriesInstanceUID"], mount.path, path.name, {one: written[one] for one in instances}
            )
            self._unused.setdefault(len(instances), []).append(place)
        os.listdir(mount.path / "studies")
        os.listdir(mount.path / "zip" / "inbox")
        self.known = self.take(Operation.OPEN)
        self.cells = 0
        self.wrong = 0
        self.prompt: list[float] = []
        self.read_known()

    def take(self, operation: Operation) -> Place:
        """A study that nobody has looked at, ready for an operation."""
        place = self._unused[SLICES if operation is Operation.PULL else 1].pop()
        place.list_it()
        if operation is Operation.READ:
            place.handle = os.open(place.file, os.O_RDONLY)
        elif operation is Operation.THUMBNAIL:
            os.listdir(place.root / "thumbnails" / place.folder.relative_to(place.root))
            place.picture = self._picture(place)
        return place

    def _picture(self, place: Place) -> bytes:
        """What the server itself renders."""
        query: dict[str, str | int] = {
            "requestType": "WADO",
            "studyUID": place.StudyInstanceUID,
            "seriesUID": place.SeriesInstanceUID,
            "objectUID": only(list(place.written)),
            "contentType": "image/jpeg",
            "rows": 250,
            "columns": 250,
            "frameNumber": 1,
        }
        return self._ask("/api/wado", query).content

    def series_list(self, place: Place) -> Any:
        """What the server itself says of a study's series."""
        return self._ask(f"/api/studies/{place.StudyInstanceUID}/series", {"inbox": "true"}).json()

    def _ask(self, path: str, query: dict[str, Any]) -> httpx.Response:
        url = f"{self.server.url.removesuffix('/')}{path}"
        answer = self._client.get(url, params=query, headers={"Authorization": f"Bearer {self._token}"})
        return answer.raise_for_status()

    def read_known(self) -> None:
        """What is cached is there, at once and as it was."""
        began = time.monotonic()
        with self.known.file.open("rb") as file:
            forget_pages(file.fileno())
            compare(file.read(), self.known.truth)
        self.prompt.append(time.monotonic() - began)

    def revoke(self) -> None:
        """Let the token of the mount die."""
        self.server.call("POST", "/revoke", json={"token": self._token})

    def allow(self) -> None:
        """Let it live again, and switch off whatever kills it."""
        self.server.clear_faults()
        self.server.call("POST", "/restore", json={"token": self._token})

    def median_prompt_ms(self) -> float:
        return round(1000 * statistics.median(self.prompt), 1)
