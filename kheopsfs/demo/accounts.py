"""Who may see what: users, albums, capability tokens and the viewer tokens made from them.

An inbox and an album hold *series*, not studies (contract: "An album holds series"). Everything that a token may see
follows from the holdings it reaches: those of its album, or those of its user's inbox and albums, or one study of them
for a viewer token. Permissions are those of an album token; a user token may do what the user may, whatever was ticked.
"""

import hashlib
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import Literal

from kheopsfs.demo.library import Library, Series, Study

TOKEN_LENGTH = 22
ID_LENGTH = 10
_LETTERS = string.ascii_letters + string.digits

VIEWER_TOKEN_LIFE = 18_000
"""Seconds; what the token exchange announces."""

LEEWAY = 5
"""Seconds of grace at both ends of a token's validity."""

CAPABILITY_LIFE = 90 * 86_400
"""Seconds; three months, when the creator gave no end date."""


def new_secret() -> str:
    """A fresh capability token."""
    return "".join(secrets.choice(_LETTERS) for _ in range(TOKEN_LENGTH))


def fixed_id(of: str) -> str:
    """Ten letters and digits for an album or a token id, always the same for the same text."""
    number = int.from_bytes(hashlib.sha256(of.encode()).digest()[:8])
    return "".join(_LETTERS[number // 62**place % 62] for place in range(ID_LENGTH))


class Holdings:
    """The series that an inbox or an album holds: study UID → series UIDs, None standing for all of the study."""

    def __init__(self) -> None:
        self.studies: dict[str, set[str] | None] = {}

    def put(self, StudyInstanceUID: str, SeriesInstanceUID: str | None = None) -> None:
        """Attach one series, or the whole study with whatever joins it later."""
        if SeriesInstanceUID is None:
            self.studies[StudyInstanceUID] = None
            return
        held = self.studies.setdefault(StudyInstanceUID, set())
        if held is not None:
            held.add(SeriesInstanceUID)

    def remove(self, StudyInstanceUID: str, SeriesInstanceUID: str | None, library: Library) -> None:
        """Unlink one series or the whole study."""
        held = self.studies.pop(StudyInstanceUID, set())
        if SeriesInstanceUID is None:
            return
        if held is None:
            held = set(library.studies[StudyInstanceUID].series)
        if held := held - {SeriesInstanceUID}:
            self.studies[StudyInstanceUID] = held

    def __contains__(self, series: Series) -> bool:
        held = self.studies.get(series.StudyInstanceUID, set())
        return held is None or series.SeriesInstanceUID in held


def shown(study: Study, holdings: list[Holdings]) -> list[Series]:
    """The series of a study that any of the holdings has."""
    return [series for series in study.series.values() if any(series in one for one in holdings)] if holdings else []


@dataclass(eq=False)
class User:
    """A person with an account."""

    sub: str
    name: str
    email: str
    inbox: Holdings = field(default_factory=Holdings)


@dataclass(eq=False)
class Album:
    """An album. `members` says for each user whether they administer it; `flags` what ordinary members may do."""

    album_id: str
    name: str
    created_time: str
    last_event_time: str
    members: dict[str, bool]
    description: str | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    favorite_of: set[str] = field(default_factory=set)
    comments: int = 0
    holdings: Holdings = field(default_factory=Holdings)


@dataclass(eq=False)
class Token:
    """A capability token: of a user, or of an album if `album` is set."""

    what: str
    owner: User
    album: Album | None = None
    permissions: tuple[str, ...] = ("read",)
    secret: str = field(default_factory=new_secret, repr=False)
    not_before: float = 0.0
    expires: float = field(default_factory=lambda: time.time() + CAPABILITY_LIFE)
    revoked: bool = False
    issued: float = field(default_factory=time.time)
    last_used: float | None = None

    @property
    def token_id(self) -> str:
        """The public id (`cap_token`)."""
        return fixed_id(f"token {self.what}")

    @property
    def kind(self) -> Literal["user", "album"]:
        """Whose token it is."""
        return "album" if self.album else "user"

    @property
    def scope(self) -> str:
        """The scope as introspection words it; empty if there is none."""
        if self.album is None:
            return "user read write downloadbutton send"
        return " ".join(word for word in ("read", "write", "downloadbutton", "send") if word in self.permissions)

    def is_live(self) -> bool:
        """Whether it is accepted now."""
        return not self.revoked and self.not_before - LEEWAY <= time.time() <= self.expires + LEEWAY


@dataclass(eq=False)
class ViewerToken:
    """A token for one study, made from a capability token and no longer alive than that."""

    parent: Token
    StudyInstanceUID: str
    source: "Source"
    expires: float
    secret: str = field(repr=False)

    def is_live(self) -> bool:
        """Whether it is accepted now."""
        return self.parent.is_live() and time.time() <= self.expires + LEEWAY


Source = Album | Literal["inbox"] | None
"""What a request narrows itself to: an album, the inbox, or nothing."""


@dataclass
class Principal:
    """Who asks: a live token and what it reaches."""

    token: Token
    accounts: "Accounts"
    viewer: ViewerToken | None = None

    @property
    def is_user(self) -> bool:
        """A user token itself; a viewer token is not one."""
        return self.token.album is None and self.viewer is None

    @property
    def can_read(self) -> bool:
        """Whether lists and retrieval are allowed at all."""
        return self.token.album is None or "read" in self.token.permissions

    def is_live(self) -> bool:
        """Whether the token is still accepted, asked again in the middle of a long answer."""
        return (self.viewer or self.token).is_live()

    def albums(self) -> list[Album]:
        """The albums it reaches."""
        if self.token.album is not None:
            return [self.token.album]
        return [album for album in self.accounts.albums.values() if self.token.owner.sub in album.members]

    def album(self, album_id: str) -> Album | None:
        """One of them by its id."""
        return next((album for album in self.albums() if album.album_id == album_id), None)

    def holdings(self, source: Source) -> list[Holdings]:
        """What the source holds for this token; no source: everything it reaches."""
        if self.viewer is not None and source is None:
            source = self.viewer.source
        if source == "inbox":
            return [self.token.owner.inbox]
        if isinstance(source, Album):
            return [source.holdings]
        inbox = [] if self.token.album else [self.token.owner.inbox]
        return inbox + [album.holdings for album in self.albums()]

    def series(self, study: Study | None, source: Source = None) -> list[Series]:
        """The series of a study that the source shows, each once."""
        if study is None or not self._may_see(study.StudyInstanceUID):
            return []
        return shown(study, [one for one in self.holdings(source) if study.StudyInstanceUID in one.studies])

    def reach(self, source: Source = None) -> dict[str, list[Holdings]]:
        """Every study that the source shows, in no particular order, with the holdings that lead to it."""
        reached: dict[str, list[Holdings]] = {}
        for one in self.holdings(source):
            for uid in one.studies:
                reached.setdefault(uid, []).append(one)
        return reached if self.viewer is None else {uid: ways for uid, ways in reached.items() if self._may_see(uid)}

    def _may_see(self, StudyInstanceUID: str) -> bool:
        return self.viewer is None or self.viewer.StudyInstanceUID == StudyInstanceUID


class Accounts:
    """All users, albums and tokens."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.albums: dict[str, Album] = {}
        self.tokens: dict[str, Token] = {}
        self.viewers: dict[str, ViewerToken] = {}

    def add_user(self, sub: str, name: str, email: str) -> User:
        """Register a user."""
        return self.users.setdefault(sub, User(sub, name, email))

    def add_album(self, name: str, owner: User, created: str, **more: object) -> Album:
        """Create an album that `owner` administers; its id follows from its name and time."""
        album = Album(fixed_id(f"album {name} {created}"), name, created, created, {owner.sub: True}, **more)  # type: ignore[arg-type]
        return self.albums.setdefault(album.album_id, album)

    def albums_named(self, name: str) -> list[Album]:
        """All albums of a name, which need not be one."""
        return [album for album in self.albums.values() if album.name == name]

    def add_token(self, token: Token) -> Token:
        """Register a token."""
        self.tokens[token.secret] = token
        return token

    def add_viewer(self, parent: Token, StudyInstanceUID: str, source: Source) -> ViewerToken:
        """Narrow a token to one study (RFC 8693 token exchange)."""
        secret = ".".join(secrets.token_urlsafe(size) for size in (120, 64, 12, 150, 12))  # looks like a JWE
        viewer = ViewerToken(parent, StudyInstanceUID, source, time.time() + VIEWER_TOKEN_LIFE, secret)
        self.viewers[secret] = viewer
        return viewer

    def find(self, secret: str) -> Principal | None:
        """Who holds this secret, if it is alive."""
        viewer = self.viewers.get(secret)
        token = viewer.parent if viewer else self.tokens.get(secret)
        if token is None or not (viewer or token).is_live():
            return None
        token.last_used = time.time()
        return Principal(token, self, viewer)
