"""What the server last said of a token, and when: all that an offline mount has to go by.

Introspection tells whose a token is, and that names the part of the cache which the token may see. So each answer is
written down beside the listings: for a living token what it is, for a dead one that nothing is known any more.

The token itself is not written, only a digest of it, with the server's origin mixed in so that two servers' notes
cannot be compared. A fast, plain digest is enough: a capability token is 22 random letters and digits, 131 bits, which
nobody finds by trying; slow digests exist for what people think up.

Invariant: what is recalled was said by this server of this very token. Somebody else's token, another album's or one
that was never used here recalls nothing, whatever the cache holds.
"""

import hashlib
import time
from dataclasses import dataclass

import msgspec
import trio

from kheopsfs.errors import TokenRefusedError
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.tokens import TokenInfo
from kheopsfs.store import Store

DAY = 86_400.0  # seconds
TRUSTED_DAYS = (
    7  # a week at a congress or at sea; a token that was revoked reads what was cached for no longer than that
)
CLOCK_TOLERANCE = (
    DAY  # seconds that a clock may have been put back: time zones mistaken for UTC, a battery that is flat
)

NEVER_SEEN = (
    "Offline, a token shows what was cached with that very token, and this one was not used with this cache directory "
    "yet (or it was refused since, or the cache was purged). Mount once without --offline."
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TokenInfo)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a living token is, and when the server said so (seconds since 1970)."""

    info: TokenInfo
    confirmed_at: float


def demand_trusted(confirmed_at: float) -> None:
    """Return if what the server said then still counts without asking it.

    Raises:
        TokenRefusedError: it is too long ago, or in the future.
    """
    age = time.time() - confirmed_at
    if age < -CLOCK_TOLERANCE:
        raise TokenRefusedError(
            "by this machine's clock the server accepted the token in the future: put the clock right, "
            "or mount with the server in reach"
        )
    if age >= TRUSTED_DAYS * DAY:
        raise TokenRefusedError(
            f"the server accepted the token {age / DAY:.0f} days ago; without asking it again that counts for "
            f"{TRUSTED_DAYS} days, because meanwhile it may have been revoked"
        )


class Standings:
    """The standings of tokens of one server (its `origin`), on disk."""

    def __init__(self, store: Store, origin: str) -> None:
        self._kept = store.listings
        self._origin = origin

    async def note(self, token: Token, info: TokenInfo | None) -> None:
        """The server said this of a token; None: that it is dead."""
        with trio.CancelScope(shield=True):
            if info is None:
                await trio.to_thread.run_sync(self.forget, token)
            else:
                await trio.to_thread.run_sync(self._kept.put, self._key(token), _encoder.encode(info))

    def recall(self, token: Token) -> Standing | None:
        """What was noted last, however old; None if nothing was, or the token was dead then. Blocks on the disk."""
        kept = self._kept.get(self._key(token))
        if kept is None:
            return None
        try:
            return Standing(_decoder.decode(kept.payload), kept.fetched_at)
        except msgspec.DecodeError:  # written by another version
            return None

    def forget(self, token: Token) -> None:
        """Recall nothing from now on: the token is dead. Blocks on the disk."""
        self._kept.discard(self._key(token))

    def _key(self, token: Token) -> str:
        salt = hashlib.sha256(self._origin.encode()).digest()
        return f"token/{hashlib.blake2b(token.reveal().encode(), key=salt, digest_size=16).hexdigest()}"
