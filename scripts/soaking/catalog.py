"""What every mount must show, found out once while nothing is wrong.

Names are a function of what a thing is, so every mount must show the same ones for ever. They come from the first
mount; which instances there are, and all bytes, come from the server itself.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from harness.looking import original, xattr
from harness.model import ALL, World
from harness.mounting import Mount
from harness.patience import errno_of
from harness.server import DemoServer


@dataclass
class Catalog:
    """Every path below a mountpoint.

    Attributes:
        folders, files, links: what each path holds; `files` of None the server makes anew: pictures and archives.
        failing: those of them that the server cannot make even when nothing is wrong, and the errno for it.
    """

    folders: dict[str, frozenset[str]] = field(default_factory=dict)
    files: dict[str, bytes | None] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.folders) + len(self.files) + len(self.links)


def take(server: DemoServer, token: str, sub: str, mount: Mount) -> Catalog:
    """Walk a mount.

    Raises:
        AssertionError: it shows something else than the server has.
    """
    world = World.of(server, token, sub)
    catalog = Catalog()
    bodies: dict[str, bytes] = {}
    with httpx.Client(trust_env=False) as client:
        for name, folders, files in os.walk(mount.path):
            folder = Path(name)
            place = str(folder.relative_to(mount.path))
            catalog.folders[place] = frozenset(folders + files)
            for path in (folder / one for one in folders + files):
                place = str(path.relative_to(mount.path))
                if path.is_symlink():
                    catalog.links[place] = str(path.readlink())
                elif path.suffix == ".dcm":
                    uid = xattr(path, "dicom.SOPInstanceUID")
                    if uid not in bodies:
                        bodies[uid] = original(server, token, path, client)
                        assert hashlib.sha256(bodies[uid]).hexdigest() == world.sha256[uid]
                    catalog.files[place] = bodies[uid]
                elif path.is_file():
                    catalog.files[place] = None if path.suffix in {".jpg", ".zip"} else path.read_bytes()
    visible = {uid for studies in world.sources[ALL].values() for series in studies for uid in world.instances[series]}
    assert bodies.keys() == visible
    for place in (place for place, data in catalog.files.items() if data is None):
        if (number := errno_of((mount.path / place).read_bytes)) is not None:
            catalog.failing[place] = number
    return catalog
