"""What is remembered of a token: exactly what this server said of this very token last (S21, S23)."""

import string
import tempfile
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from kheopsfs.fetch.standings import Standings
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.tokens import TokenInfo
from kheopsfs.store import Store

origins = st.sampled_from(["https://a.example", "https://a.example:8443", "http://127.0.0.1:1"])
tokens = st.text(string.ascii_letters + string.digits, min_size=22, max_size=22)
infos = st.builds(
    TokenInfo,
    kind=st.sampled_from(["user", "album"]),
    subject=st.text(max_size=20),
    scopes=st.frozensets(st.sampled_from(["user", "read", "write", "send"])),
    token_id=st.text(max_size=10),
    album_id=st.sampled_from(["", "dTxCc6OJyG"]),
)


@settings(max_examples=20)
@given(st.lists(st.tuples(origins, tokens, st.none() | infos), min_size=1, max_size=8))
def test_a_token_recalls_what_was_said_of_it_last_and_nothing_else(
    said: list[tuple[str, str, TokenInfo | None]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "cache", 2**30) as store:
        expected: dict[tuple[str, str], TokenInfo | None] = {}
        for origin, token, info in said:
            trio.run(Standings(store, origin).note, Token(token), info)
            expected[origin, token] = info
        for origin in {origin for origin, _, _ in said}:
            for token in {token for _, token, _ in said} | {"x" * 22}:
                standing = Standings(store, origin).recall(Token(token))
                assert (standing and standing.info) == expected.get((origin, token))
        on_disk = b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
        assert not [token for _, token, _ in said if token.encode() in on_disk]
