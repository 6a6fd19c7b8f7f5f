"""A demo server in a process of its own, with the switches for faults that tests turn."""

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

STOP_SECONDS = 10


class DemoServer:
    """`python -m kheopsfs.demo --control` and a client for its switches."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kheopsfs.demo", "--json", "--control", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the demo server ended with {self._process.wait()}"
        self.announcement: dict[str, Any] = json.loads(line)
        self.url: str = self.announcement["url"]
        self._control = httpx.Client(base_url=f"{self.url.removesuffix('/')}/_control", trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._control.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("the demo server did not end on SIGTERM") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def token(self, kind: str = "user", what: str = "") -> str:
        """The first token of a kind whose description holds `what`."""
        for token in self.announcement["tokens"]:
            if token["kind"] == kind and what in token["what"]:
                return str(token["token"])
        raise LookupError(
            f"no {kind} token {what!r} among {[(t['kind'], t['what']) for t in self.announcement['tokens']]}"
        )

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call of the control interface."""
        answer = self._control.request(method, path, **kwargs)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def requests(self, containing: str = "") -> Sequence[dict[str, Any]]:
        """What was asked for since the log was last cleared."""
        return [entry for entry in self.call("GET", "/requests") if containing in entry["path"]]

    def clear_requests(self) -> None:
        self.call("DELETE", "/requests")

    def fault(self, **fault: Any) -> None:
        """Switch a fault on."""
        self.call("POST", "/faults", json=fault)

    def clear_faults(self) -> None:
        self.call("DELETE", "/faults")
