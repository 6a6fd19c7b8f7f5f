"""Every cell of the fault matrix, on real mounts of a real server (S7, S14–S17).

For each cell: the errno that the table promises; no wrong byte, neither then nor from the cache when the fault is over;
the call comes back; what is cached, and what is not struck, can be read meanwhile; afterwards everything works without
a remount.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trustme
from fault_matrix import FAULTS, Fault, Operation, Scope
from harness.figures import record
from harness.mounting import Mount
from harness.relay import Relay
from harness.series import write_study
from harness.server import DemoServer
from harness.world import EAI_AGAIN, NAME, World
from trials import Cell, strike, try_row
from ward import SLICES, Ward

OF_STUDIES = [fault for fault in FAULTS if fault.scope is not Scope.SERVER]
OF_SERVERS = {fault.name: fault for fault in FAULTS if fault.scope is Scope.SERVER}
YEAR = 365 * 86_400  # seconds

IDLE = "2"
"""Seconds without a byte after which the mounts give a request up."""

Archive = tuple[DemoServer, dict[str, bytes]]


@pytest.fixture(scope="module")
def make_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Archive]]:
    """Makes servers with studies for so many trials of seven cells each; they end with the module."""
    with ExitStack() as stack:

        def make(trials: int) -> Archive:
            folder = tmp_path_factory.mktemp("archive")
            written: dict[str, bytes] = {}
            for _ in range(trials):
                written |= write_study(folder, series=1, instances=SLICES)
                for _ in Operation:  # one is pulled from the series above, so one is left that nothing strikes
                    written |= write_study(folder, series=1, instances=1)
            written |= write_study(folder, series=1, instances=1)  # what is known
            return stack.enter_context(DemoServer("--data", str(folder))), written

        yield make


@pytest.fixture(scope="module")
def make_ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ward]]:
    """Makes mounts of archives; they end with the module."""
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(trust_env=False))
        wards: list[Ward] = []

        def make(archive: Archive, url: str, *options: str, **environment: str) -> Ward:
            server, written = archive
            mount = Mount(url, server.token("user"), tmp_path_factory.mktemp("home"), *options, idle_timeout=IDLE)
            mount.environment |= environment
            wards.append(Ward(server, stack.enter_context(mount), written, client))
            return wards[-1]

        yield make
        record("matrix", cells=sum(ward.cells for ward in wards), wrong_bytes=sum(ward.wrong for ward in wards))
        for ward in wards:
            assert "a bug in kheopsfs" not in ward.mount.log()


# -- what strikes single studies --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ward(make_archive: Callable[[int], Archive], make_ward: Callable[..., Ward]) -> Ward:
    archive = make_archive(sum(len(fault.ways) for fault in OF_STUDIES))
    return make_ward(archive, archive[0].url)


@pytest.mark.parametrize("fault", OF_STUDIES, ids=[fault.name for fault in OF_STUDIES])
def test_a_fault_of_studies(ward: Ward, fault: Fault) -> None:
    try_row(ward, fault, strike(ward, fault), ward.server.clear_faults)


# -- what strikes the whole server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(make_archive: Callable[[int], Archive], make_ward: Callable[..., Ward]) -> Iterator[tuple[Relay, Ward]]:
    """A mount whose only way to its server is a relay."""
    archive = make_archive(5)
    with Relay(archive[0].url) as relay:
        yield relay, make_ward(archive, relay.url, "--list-ttl", "1")


@pytest.mark.parametrize(
    ("name", "switch"),
    [("refused", Relay.refuse), ("black-hole", Relay.vanish), ("silent-server", Relay.be_silent)],
    ids=["refused", "black-hole", "silent-server"],
)
def test_a_fault_of_the_line(line: tuple[Relay, Ward], name: str, switch: Callable[[Relay], None]) -> None:
    relay, ward = line
    ward.prompt.clear()
    try_row(ward, OF_SERVERS[name], lambda _: switch(relay), relay.pass_on)
    if name != "refused":
        record("matrix", median_ms_cached_while_black_holed=ward.median_prompt_ms())


def test_a_token_that_is_revoked(line: tuple[Relay, Ward]) -> None:
    """S14, S15: whoever asks the server learns it by that; afterwards nothing works, cached or not."""
    _, ward = line

    def restore() -> None:
        with pytest.raises(PermissionError):
            ward.read_known()
        ward.allow()

    try_row(ward, OF_SERVERS["token-revoked"], lambda _: ward.revoke(), restore, known_works=False)


def test_a_token_that_is_revoked_within_an_answer(line: tuple[Relay, Ward]) -> None:
    _, ward = line
    fault = OF_SERVERS["token-revoked-within"]
    try_row(ward, fault, strike(ward, fault), ward.allow, known_works=False)


@dataclass
class Lab:
    """A mount for which a test decides what the server's certificate, name and time are."""

    ward: Ward
    relay: Relay
    world: World
    authority: trustme.CA

    def certificate(self, **options: Any) -> ssl.SSLContext:
        """A certificate of the authority that the mount trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(NAME, **options).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def lab(
    make_archive: Callable[[int], Archive], make_ward: Callable[..., Ward], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    archive, folder = make_archive(4), tmp_path_factory.mktemp("lab")
    authority, world = trustme.CA(), World(folder / "world")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    with Relay(archive[0].url, context) as relay:
        environment = world.environment | {"SSL_CERT_FILE": str(folder / "authority.pem")}
        yield Lab(make_ward(archive, f"https://{NAME}:{relay.port}", **environment), relay, world, authority)


def test_a_name_that_cannot_be_looked_up(lab: Lab) -> None:
    def on(_: list[Cell]) -> None:
        lab.world.set_resolver(EAI_AGAIN)
        lab.relay.pass_on()  # ends what is connected: only a new connection needs the name

    try_row(lab.ward, OF_SERVERS["dns"], on, lambda: lab.world.set_resolver(0))


def test_a_certificate_that_has_expired(lab: Lab) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = lab.certificate(not_after=yesterday)
    try_row(lab.ward, OF_SERVERS["tls"], lambda _: lab.relay.pass_on(expired), lab.relay.pass_on)
    assert "certificate has expired" in lab.ward.mount.log()


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_clock_that_jumps(lab: Lab, jump: int) -> None:
    try_row(lab.ward, OF_SERVERS["clock"], lambda _: lab.world.set_clock(jump), lambda: lab.world.set_clock(0))
