"""Digests that stand for what a thing is: the tail of its name, and its inode number.

Both are functions of identity alone (UIDs, album ids, the place in the tree), never of attributes or of the style of
names. So a second mount, another machine, or the same mount next year agree, and editing a description moves no inode.
"""

import hashlib

# Crockford's base32: no i, l, o, u, so neither misread nor a word. Lower case: names are unique without case.
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS_PER_CHARACTER = 5
_DIGEST_BITS = 256

WHOLE_DIGEST = 52  # characters that hold all of SHA-256

ROOT_INO = 1  # FUSE's number for the root of a mount
_FIRST_INO = 2
_INO_COUNT = 2**63 - _FIRST_INO  # st_ino stays positive where a program keeps it in a signed 64-bit number


def digest(identity: str, length: int) -> str:
    """The first `length` (≤ 52) characters of SHA-256 of the text, in lower-case Crockford base32."""
    whole = hashlib.sha256(identity.encode(errors="surrogatepass")).digest()
    padding = WHOLE_DIGEST * _BITS_PER_CHARACTER - _DIGEST_BITS
    number = (int.from_bytes(whole) << padding) >> (WHOLE_DIGEST - length) * _BITS_PER_CHARACTER
    return "".join([_CROCKFORD[number >> shift & 31] for shift in range((length - 1) * _BITS_PER_CHARACTER, -1, -5)])


def inode(parent_ino: int, step: str) -> int:
    """The inode number of what `step` leads to from the folder `parent_ino`; 2 to 2⁶³ - 1.

    A step names a kind and an identity (``study/1.2.3``); chained from the root's number, steps are the place in the
    tree. Two nodes of a mount of a million share a number with a chance of 10⁻⁷.
    """
    hashed = hashlib.blake2b(
        parent_ino.to_bytes(8) + step.encode(errors="surrogatepass"), digest_size=8, usedforsecurity=False
    )
    return _FIRST_INO + int.from_bytes(hashed.digest()) % _INO_COUNT
