"""What a demo server serves: a library and the accounts that look into it.

Three ways to get one: the sample hospital, a folder of somebody's own DICOM files, and a synthetic archive of any size.
"""

from dataclasses import dataclass
from pathlib import Path

from kheopsfs.demo import library, samples, synthetic
from kheopsfs.demo.accounts import Accounts, Token
from kheopsfs.demo.elements import lenient
from kheopsfs.demo.library import Library
from kheopsfs.demo.synthetic import SyntheticSpec
from kheopsfs.errors import KheopsfsError


@dataclass
class World:
    """A library and who sees what of it."""

    library: Library
    accounts: Accounts


def of_samples() -> World:
    """The sample hospital."""
    with lenient():
        return World(samples.library(), samples.accounts())


def of_folder(folder: Path) -> World:
    """Everything below a folder: in the inbox of one user, and in one album.

    Raises:
        KheopsfsError: there is no DICOM file.
        OSError: the folder cannot be read.
    """
    with lenient():
        found = library.from_folder(folder)
    if not found.studies:
        raise KheopsfsError(f"There is no DICOM file below {folder}.")
    return _plain(found, folder.resolve().name or "data", albums=0)


def of_spec(spec: SyntheticSpec) -> World:
    """A synthetic archive."""
    return _plain(synthetic.library(spec), "synthetic", albums=spec.albums)


def _plain(found: Library, name: str, *, albums: int) -> World:
    accounts = Accounts()
    user = accounts.add_user("demo-user", "Demo User", "demo@example.org")
    album = accounts.add_album(name, user, "2024-03-05T10:15:30")
    for uid in found.studies:
        user.inbox.put(uid)
        album.holdings.put(uid)
    first = next(iter(found.studies), None)
    for number in range(1, albums + 1):
        one = accounts.add_album(f"album {number:04}", user, f"2023-01-01T00:{number // 60 % 60:02}:{number % 60:02}")
        if first is not None:
            one.holdings.put(first)
    accounts.add_token(Token("user token: all studies, in the inbox", user))
    accounts.add_token(Token(f"album token: the album “{name}” with all studies, read", user, album))
    return World(found, accounts)
