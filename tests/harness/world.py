"""The wall clock and the names of a process that runs, turned while it runs; `world.c` does it."""

import subprocess
from pathlib import Path

NAME = "kheops.invalid"
"""A host that is this machine, as long as the resolver answers."""

EAI_AGAIN = -3  # netdb.h: "Temporary failure in name resolution"


class World:
    """What a process believes that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        library = folder / "world.so"
        source = Path(__file__).with_name("world.c")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "KHEOPSFS_WORLD": str(folder)}

    def set_clock(self, seconds_ahead: int) -> None:
        """Let the wall clock jump."""
        self._write("clock", seconds_ahead)

    def set_resolver(self, failure: int) -> None:
        """What looking `NAME` up fails with; 0: it does not."""
        self._write("resolver", failure)

    def _write(self, name: str, number: int) -> None:
        part = self._folder / f"{name}.part"
        part.write_text(f"{number}\n")
        part.replace(self._folder / name)
