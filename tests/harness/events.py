"""Any sequence of events: a world that changes, faults, a mount that ends and comes back, and somebody who looks at it.

`Events` is a state machine for Hypothesis. After each step what the mount shows is what `harness.model` says:

* A list is the truth of some moment in the last `ttl` seconds; with a ttl of 0 it is the truth of now. Only a list for
  which the server was given its half a second may be older (S5).
* What is true now is there within `SOON`, without a remount (S5).
* The bytes of a file are the server's; a size is never too small, and exact once the file was opened (S6, S10, S11).
* Nothing fails unless something is wrong, and then with the errno that stands in the table (S14).

A `Stage` is what the sequences share: one server and its mounts. Each sequence leaves the world as it found it.
"""

import errno
import mmap
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from harness.instrumented import InstrumentedMount
from harness.looking import until, xattr
from harness.model import ALL, History, World, shown, shown_albums
from harness.patience import Attempt, errno_of, result_of
from harness.series import another, write_study
from harness.server import DemoServer

SERIES, SLICES = 2, 4
EDGES = (160, 160, 512)
"""Rows and columns of the images of each study."""
CACHE_SIZE = 4 * 1024**2
"""Bytes: room for a series, and less than there is."""
READ_ALONG = 200_000
"""Bytes: the images of the last study are read while they arrive, once they were seen."""
IDLE = 1.0
"""Seconds without a byte after which a request is given up."""
GRACE = 0.5
"""Seconds that a list waits for the server before an old one is shown."""
LATE = 1.0
"""Seconds by which a kept list may be older than it looks: it was true when the server made it."""
SOON = 20.0
"""Seconds within which the truth must show; far more than it takes."""
USER = "demo-user"

T = TypeVar("T")


class Stage:
    """A server with a small archive, a mount of it for each ttl, and what is true."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends = ExitStack()
        self._numbers = count(1)
        self.mounts: dict[float, InstrumentedMount] = {}

    def __enter__(self) -> Self:
        self.files = {}
        archive = self._folder / "archive"
        for number, edge in enumerate(EDGES):
            patient = f"Number {number}^Patient"
            self.files |= write_study(archive, series=SERIES, instances=SLICES, patient=patient, edge=edge)
        self.server = self._ends.enter_context(DemoServer("--data", str(archive)))
        self.token = self.server.token("user")
        self.history = History(self._ask())
        self.first = self.now
        self.settled: set[tuple[float, str]] = set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def now(self) -> World:
        return self.history.now

    def mount(self, ttl: float) -> InstrumentedMount:
        """The mount with this ttl; one that was ended is mounted again."""
        mount = self.mounts.get(ttl)
        if mount is None:
            home = self._folder / f"ttl-{ttl}"
            settings = {"list_ttl": ttl, "cache_size": CACHE_SIZE, "idle_timeout": IDLE, "read_along": READ_ALONG}
            mount = InstrumentedMount(self.server.url, self.token, home, **settings)
            self.mounts[ttl] = self._ends.enter_context(mount)
        elif not mount.is_mounted:
            mount.__enter__()
        return mount

    def edit(self, method: str, path: str, **kwargs: object) -> object:
        """Change the world."""
        made = []

        def change() -> World:
            made.append(self.server.call(method, path, **kwargs))
            return self._ask()

        self.history.change(change)
        return made[0]

    def add(self, data: bytes) -> None:
        """File an instance."""
        self.edit("POST", "/files", content=data)

    def number(self) -> int:
        """A number that was not used before."""
        return next(self._numbers)

    def restore(self) -> None:
        """Make the world what it was at first."""
        self.server.clear_faults()
        self.server.call("POST", "/restore", json={"token": self.token})
        self.history.change(self._undo)

    def _undo(self) -> World:
        call, now = self.server.call, self.now
        for album_id in now.albums.keys() - self.first.albums.keys():
            call("DELETE", f"/albums/{album_id}")
        for album_id, name in self.first.albums.items():
            call("POST", f"/albums/{album_id}", json={"name": name})
        for uid in now.sha256.keys() - self.first.sha256.keys():
            call("DELETE", f"/instances/{uid}")
        for uid in self.first.sha256.keys() - now.sha256.keys():
            call("POST", "/files", content=self.files[uid])
        for source, studies in self.first.sources.items():
            if source != ALL and now.sources[source] != studies:
                for study in now.studies(source):
                    call("POST", "/unlink", json={"source": source, "study": study})
                for study, held in studies.items():
                    for series in held:
                        call("POST", "/link", json={"source": source, "study": study, "series": series})
        return self._ask()

    def _ask(self) -> World:
        return World.of(self.server, self.token, USER)


PICK = st.integers(0, 10_000)
"""A choice among things that are only known when it is their turn."""

BAD_ANSWERS = (
    {"kind": "cut", "fraction": 0.6},
    {"kind": "cut", "byte": 0},
    {"kind": "upstream"},
    {"kind": "reset", "byte": 20_000},
    {"kind": "reset"},
    {"kind": "wrong_instance"},
    {"kind": "duplicate"},
    {"kind": "junk"},
    {"kind": "html"},
    {"kind": "gzip"},
    {"kind": "part_length"},
    {"kind": "partial", "parts": 1},
    {"kind": "content_type", "media_type": "application/dicom"},
    {"kind": "status", "code": 503},
    {"kind": "stall", "byte": 20_000},
)


def choose(among: Sequence[T], number: int) -> T | None:
    return among[number % len(among)] if among else None


class Events(RuleBasedStateMachine):
    """Steps that people, servers and machines take."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    @initialize(ttl=st.sampled_from([0.0, 0.3]))
    def somebody_mounts(self, ttl: float) -> None:
        self.ttl = ttl
        self.mount = self.stage.mount(ttl)
        self.trouble = False  # something was wrong just now: what is kept may be shown, however old

    def teardown(self) -> None:
        self.stage.restore()

    # -- the world changes -------------------------------------------------------------------------------------------

    @rule(like=PICK, source=PICK, where=st.sampled_from(["in a series", "as a series", "as a study"]))
    def an_instance_arrives(self, like: int, source: int, where: str) -> None:
        uid = choose(list(self.stage.first.sha256), like)
        fresh = {"in a series": (), "as a series": ("Series",), "as a study": ("Study", "Series")}[where]
        number = self.stage.number()
        uids = {f"{level}InstanceUID": f"2.25.{number}{place}" for place, level in enumerate(fresh)}
        image, data = another(self.stage.files[uid or ""], InstanceNumber=1000 + number, **uids)
        self.stage.files[str(image.SOPInstanceUID)] = data
        self.stage.add(data)
        holder = choose(self._holders(), source)
        change = {"source": holder, "study": str(image.StudyInstanceUID), "series": str(image.SeriesInstanceUID)}
        self.stage.edit("POST", "/link", json=change)

    @rule(which=PICK)
    def an_instance_is_lost(self, which: int) -> None:
        if uid := choose(list(self.stage.now.sha256), which):
            self.stage.edit("DELETE", f"/instances/{uid}")

    @rule(action=st.sampled_from(["link", "unlink"]), source=PICK, study=PICK, series=PICK, whole=st.booleans())
    def a_link_comes_or_goes(self, action: str, source: int, study: int, series: int, whole: bool) -> None:
        holder = choose(self._holders(), source)
        studies = self.stage.now.sources[holder if action == "unlink" else ALL]
        if uid := choose(list(studies), study):
            one = choose([name for name in self.stage.now.instances if name in studies[uid]], series)
            change = {"source": holder, "study": uid, "series": None if whole else one}
            self.stage.edit("POST", f"/{action}", json=change)

    @rule()
    def an_album_is_made(self) -> None:
        number = self.stage.number()
        album = {"name": f"Album {number}", "sub": USER, "created_time": f"2024-01-01T{number:06}"}
        self.stage.edit("POST", "/albums", json=album)

    @rule(which=PICK)
    def an_album_is_renamed(self, which: int) -> None:
        if album_id := choose(list(self.stage.now.albums), which):
            self.stage.edit("POST", f"/albums/{album_id}", json={"name": f"Renamed {self.stage.number()}"})

    @rule(which=PICK)
    def an_album_is_deleted(self, which: int) -> None:
        if album_id := choose([one for one in self.stage.now.albums if one not in self.stage.first.albums], which):
            self.stage.edit("DELETE", f"/albums/{album_id}")

    def _holders(self) -> list[str]:
        return [source for source in self.stage.now.sources if source != ALL]

    # -- somebody looks ----------------------------------------------------------------------------------------------

    @rule()
    def albums_are_listed(self) -> None:
        albums = self.mount.path / "albums"
        self._compare(lambda: frozenset(shown_albums(albums)), lambda world: frozenset(world.albums))

    @rule(which=PICK)
    def the_name_of_an_album_follows(self, which: int) -> None:
        if album_id := choose(list(self.stage.now.albums), which):
            self._source(album_id)

    @rule(which=PICK)
    def a_source_is_listed(self, which: int) -> None:
        source = choose(list(self.stage.now.sources), which) or ALL
        folder = self._source(source)
        self._compare(lambda: frozenset(shown(folder, "Study")), lambda world: world.studies(source))

    @rule(which=PICK)
    def a_study_is_listed(self, which: int) -> None:
        if place := choose(self.stage.now.places(), which):
            source, study, *_ = place
            folder = self._find(self._source(source), "Study", study)
            self._compare(lambda: frozenset(shown(folder, "Series")), lambda world: world.series(source, study))

    @rule(which=PICK)
    def a_series_is_listed(self, which: int) -> None:
        if place := choose(self.stage.now.places(), which):
            source, study, series, _ = place
            folder = self._find(self._find(self._source(source), "Study", study), "Series", series)
            self._compare(lambda: frozenset(shown(folder, "SOP")), lambda world: world.content(series))

    @rule()
    def links_lead_to_their_studies(self) -> None:
        links = self.mount.path / "by-uid"
        self._compare(lambda: frozenset(os.listdir(links)), lambda world: world.studies(ALL))
        for uid in self.stage.now.studies(ALL):
            until((links / uid).exists, seconds=SOON)
            target = links / (links / uid).readlink()
            assert result_of(lambda target=target: xattr(target, "dicom.StudyInstanceUID")) == uid  # type: ignore[misc]

    @rule(which=PICK)
    def a_file_is_read(self, which: int) -> None:
        if found := self._file(which):
            self._read_and_compare(*found)

    @rule(which=PICK, places=st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 60_000)), max_size=5))
    def a_file_is_read_here_and_there(self, which: int, places: list[tuple[int, int]]) -> None:
        if found := self._file(which):
            path, uid = found
            data = self.stage.files[uid]
            with result_of(lambda: path.open("rb", buffering=0)) as file:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    for offset, length in places:
                        wanted = data[offset : offset + length]
                        read = result_of(lambda at=offset, much=length: os.pread(file.fileno(), much, at))  # type: ignore[misc]
                        assert read == wanted
                        assert mapped[offset : offset + length] == wanted
                assert os.fstat(file.fileno()).st_size == len(data)
            self.stage.settled.add((self.ttl, uid))

    @rule(one=PICK, other=PICK)
    def two_read_at_once(self, one: int, other: int) -> None:
        found = [file for file in (self._file(one), self._file(other), self._file(one)) if file]
        readers = [(Attempt(path.read_bytes), uid) for path, uid in found]
        for reader, uid in readers:
            assert reader.result() == self.stage.files[uid]

    @rule(which=PICK)
    def a_file_is_looked_at(self, which: int) -> None:
        if found := self._file(which):
            path, uid = found
            size, truth = result_of(path.stat).st_size, len(self.stage.files[uid])
            if (self.ttl, uid) in self.stage.settled:
                assert size == truth
                assert xattr(path, "kheops.size") == "exact"
            assert size >= truth
            assert xattr(path, "kheops.cached") in {"yes", "no"}
            assert xattr(path, "dicom.StudyInstanceUID") == xattr(path.parent.parent, "dicom.StudyInstanceUID")

    @rule(which=PICK)
    def a_zip_is_read(self, which: int) -> None:
        """It holds the instances of the source. Of a study with an empty series the server makes no whole one."""
        if place := choose(self.stage.now.places(), which):
            source, study, *_ = place
            path = self._find(self._source(source, view="zip"), "Study", study)
            begun = time.monotonic()
            opening = Attempt(lambda: zipfile.ZipFile(path))
            failed = opening.errno()
            lately = self.stage.history.since(self._since(begun), lambda world: world.counts(source, study))
            if failed is None:
                with opening.result() as archive:
                    names = archive.namelist()
                assert names[-1] == "DICOMDIR"
                assert len(names) - 1 in {sum(counts) for counts in lately if all(counts)}
            else:
                assert failed == errno.EIO
                assert not all(map(all, lately))

    # -- something is wrong ------------------------------------------------------------------------------------------

    @rule(which=PICK, fault=st.sampled_from(BAD_ANSWERS), times=st.sampled_from([1, 2, None]))
    def bytes_come_badly(self, which: int, fault: dict[str, object], times: int | None) -> None:
        """Up to two bad answers are nobody's business; more are EIO, or ETIMEDOUT for silence; never a wrong byte."""
        if not (found := self._file(which)):
            return
        path, uid = found
        with self._faults({"path": f"/instances/{uid}$", "times": times, **fault}):
            reader = Attempt(path.read_bytes)
            number = reader.errno()
            if number is None:
                assert reader.result() == self.stage.files[uid]
            else:
                assert number == (errno.ETIMEDOUT if fault["kind"] == "stall" else errno.EIO)
                assert times is None or fault["kind"] == "stall", f"{fault} is nobody's business when it passes"
        self._read_and_compare(path, uid)

    @rule(which=PICK, kind=st.sampled_from(["status", "html", "reset"]))
    def lists_come_badly(self, which: int, kind: str) -> None:
        """What is kept is shown, or EIO; never a part of a list."""
        if not (place := choose(self.stage.now.places(), which)):
            return
        source, study, *_ = place
        folder = self._source(source)
        options = {"code": 503} if kind == "status" else {}
        with self._faults({"path": "/api/(albums|studies)", "kind": kind, **options}):
            listing = Attempt(lambda: frozenset(shown(folder, "Study")))
            if (number := listing.errno()) is None:
                assert listing.result() in self.stage.history.since(0, lambda world: world.studies(source))
            else:
                assert number == errno.EIO
        self._find(folder, "Study", study)

    @precondition(lambda self: self.ttl > 0)
    @rule(chance=st.integers(0, 5))
    def the_token_dies_and_lives_again(self, chance: int) -> None:
        if chance != 3:
            return
        with self._faults():
            self.stage.server.call("POST", "/revoke", json={"token": self.stage.token})
            until(lambda: errno_of(lambda: os.listdir(self.mount.path)) == errno.EACCES, seconds=SOON)
            assert errno_of(lambda: os.listdir(self.mount.path / "studies")) == errno.EACCES
            self.stage.server.call("POST", "/restore", json={"token": self.stage.token})
            until(lambda: errno_of(lambda: os.listdir(self.mount.path)) is None, seconds=SOON)

    @rule(chance=st.integers(0, 7), kill=st.booleans())
    def the_mount_ends_and_comes_back(self, chance: int, kill: bool) -> None:
        if chance != 3:
            return
        if kill:
            self.mount.kill()
        else:
            assert self.mount.command("umount", str(self.mount.path)).returncode == 0
        self.stage.mount(self.ttl)

    @contextmanager
    def _faults(self, *faults: dict[str, object]) -> Iterator[None]:
        try:
            for fault in faults:
                self.stage.server.fault(**fault)
            yield
        finally:
            self.stage.server.clear_faults()
        self.trouble = True

    # -- how it is compared ------------------------------------------------------------------------------------------

    def _compare(self, look: Callable[[], frozenset[str]], view: Callable[[World], frozenset[str]]) -> None:
        """What is shown was true lately, and what is true is shown soon."""
        begun = time.monotonic()
        seen = self._seen(look)
        assert seen in self.stage.history.since(self._since(begun), view)
        until(lambda: self._seen(look) == view(self.stage.now), seconds=SOON)
        self.trouble = False

    def _since(self, begun: float) -> float:
        """How old what was asked for at a moment, and has come by now, may be: a moment of the monotonic clock."""
        if self.trouble or time.monotonic() - begun > GRACE:
            return 0.0
        return begun - (self.ttl + LATE if self.ttl else 0)

    def _seen(self, look: Callable[[], frozenset[str]]) -> frozenset[str]:
        """A folder that went while it was looked at is as good as empty."""
        return frozenset() if (seen := self._unless_gone(look)) is None else seen

    def _unless_gone(self, look: Callable[[], T]) -> T | None:
        attempt = Attempt(look)
        if attempt.errno() != errno.ENOENT:
            return attempt.result()
        self.trouble = True  # the lists that showed it are being asked for: what comes may be of a moment ago
        return None

    def _source(self, source: str, view: str = "") -> Path:
        root = self.mount.path / view
        if (name := self.stage.now.albums.get(source)) is not None:
            folder = root / "albums" / f"{name.replace(' ', '_')}_{source}"  # names given here need no more care
            until(lambda: folder.name in result_of(lambda: os.listdir(folder.parent)), seconds=SOON)
            return folder
        return root / ("inbox" if source == USER else ALL)

    def _find(self, folder: Path, level: str, uid: str) -> Path:
        """Where something that is there now is shown."""

        return Path(until(lambda: (self._unless_gone(lambda: shown(folder, level)) or {}).get(uid), seconds=SOON))

    def _file(self, which: int) -> tuple[Path, str] | None:
        if not (place := choose(self.stage.now.places(), which)):
            return None
        source, study, series, uid = place
        folder = self._find(self._find(self._source(source), "Study", study), "Series", series)
        return self._find(folder, "SOP", uid), uid

    def _read_and_compare(self, path: Path, uid: str) -> None:
        assert result_of(path.read_bytes) == self.stage.files[uid]
        assert result_of(path.stat).st_size == len(self.stage.files[uid])
        assert xattr(path, "kheops.size") == "exact"
        self.stage.settled.add((self.ttl, uid))
