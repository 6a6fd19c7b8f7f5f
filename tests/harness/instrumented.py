"""A real mount whose process can be looked into: it counts what only it knows, and has a bug when told to.

Run as a program with the mountpoint's folder as its only argument; the order comes through standard input, as for any
process that serves a mount. Whenever `<folder>/ask` is there, it is replaced by `<folder>/answer`, one JSON object. While
`<folder>/bug` is there, whatever the handlers ask of the library raises ZeroDivisionError.
"""

import json
import sys
from pathlib import Path
from typing import Any

import trio

from kheopsfs.fetch import Library
from kheopsfs.mount.background import serve, take_order
from kheopsfs.mount.operations import KheopsOperations

LOOK_PAUSE = 0.02  # seconds


def _instrument(folder: Path) -> None:
    born: list[KheopsOperations] = []
    make, follow = KheopsOperations.__init__, Library.opened

    def made(self: KheopsOperations, *arguments: Any) -> None:
        make(self, *arguments)
        born.append(self)

    async def answer() -> None:
        while True:
            if (folder / "ask").exists():
                (folder / "ask").unlink()
                counts = {"inodes": len(born[0].inodes), "files": len(born[0]._files), "folders": len(born[0]._listings)}
                (folder / "part").write_text(json.dumps(counts))
                (folder / "part").rename(folder / "answer")
            await trio.sleep(LOOK_PAUSE)

    def with_bugs(name: str) -> None:
        real = getattr(Library, name)

        def buggy(self: Library, *arguments: Any) -> Any:
            if (folder / "bug").exists():
                raise ZeroDivisionError(name)
            return real(self, *arguments)

        setattr(Library, name, buggy)

    KheopsOperations.__init__ = made  # type: ignore[method-assign]
    for name in ("open", "listing", "settle", "is_cached"):
        with_bugs(name)
    watch = trio.open_nursery

    _ = (follow, watch)
    import kheopsfs.mount.service as service

    say = service._say_when_ready

    async def say_and_answer(*arguments: Any) -> None:
        await say(*arguments)
        await answer()

    service._say_when_ready = say_and_answer


if __name__ == "__main__":
    _instrument(Path(sys.argv[1]))
    serve(take_order(), None, lambda: None)
