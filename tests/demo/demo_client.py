"""A demo server in a process of its own, and the few words that the tests of this folder speak with it."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
DECOMPRESSED = 'multipart/related; type="application/dicom"'
ZIP = "application/zip"

USER = "user token"
"""The first user: Ada, or the only one."""

PATIENCE = 30
"""Seconds until a server that neither starts nor stops fails the test."""


@dataclass
class Place:
    """One series of the library, as the control interface describes it."""

    study: str
    series: str
    modality: str
    sources: list[str]
    instances: list[dict[str, Any]] = field(repr=False)

    @property
    def url(self) -> str:
        return f"/api/studies/{self.study}/series/{self.series}"

    @property
    def first(self) -> str:
        return f"{self.url}/instances/{self.instances[0]['SOPInstanceUID']}"


class Demo:
    """`python -m kheopsfs.demo --json --control` with further arguments."""

    def __init__(self, *arguments: str, verify: Any = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kheopsfs.demo", "--json", "--control", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"no announcement, status {self.process.wait()}"
        self.announcement = json.loads(line)
        self.url = self.announcement["url"]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, verify=verify, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def token(self, what: str) -> str:
        """The token whose description begins so."""
        return str(next(one["token"] for one in self.announcement["tokens"] if one["what"].startswith(what)))

    def bearer(self, what: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(what)}"}

    def get(self, path: str, token: str | None = USER, **headers: str) -> httpx.Response:
        """GET with a Bearer header; further headers by their name with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(path, headers={**(self.bearer(token) if token else {}), **named})

    def control(self, method: str, path: str, document: Any = None) -> Any:
        answer = self.http.request(method, f"/_control{path}", json=document)
        assert answer.status_code < 400, answer.text
        return answer.json() if answer.content else None

    def fault(self, kind: str, path: str = "", **options: Any) -> None:
        self.control("POST", "/faults", {"kind": kind, "path": path, **options})

    def library(self, *, checksums: bool = False) -> list[Place]:
        found = self.control("GET", f"/library?sha256={int(checksums)}")
        return [
            Place(
                study["StudyInstanceUID"], one["SeriesInstanceUID"], one["Modality"], one["sources"], one["instances"]
            )
            for study in found
            for one in study["series"]
        ]

    def series(self, description: str) -> Place:
        """The series of this SeriesDescription."""
        found = self.control("GET", "/library")
        return next(
            Place(
                study["StudyInstanceUID"], one["SeriesInstanceUID"], one["Modality"], one["sources"], one["instances"]
            )
            for study in found
            for one in study["series"]
            if one["attributes"].get("0008103E") == [description]
        )

    def album(self, name: str) -> str:
        """The id of the first album of Ada's with this name."""
        return str(next(one["album_id"] for one in self.get("/api/albums").json() if one["name"] == name))

    def requests(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "/requests"))


def boundary(answer: httpx.Response) -> bytes:
    return answer.headers["content-type"].partition("boundary=")[2].partition(";")[0].strip('"').encode()


def parts(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    """Header block and content of each part of a complete multipart answer."""
    mark = b"--" + boundary(answer)
    assert answer.content.startswith(mark + b"\r\n")
    assert answer.content.endswith(b"\r\n" + mark + b"--\r\n"), "the closing boundary is missing"
    pieces = (b"\r\n" + answer.content).split(b"\r\n" + mark)[1:-1]
    split = (piece.removeprefix(b"\r\n").partition(b"\r\n\r\n") for piece in pieces)
    return [(head, content) for head, _, content in split]


def bodies(answer: httpx.Response) -> list[bytes]:
    return [content for _, content in parts(answer)]
