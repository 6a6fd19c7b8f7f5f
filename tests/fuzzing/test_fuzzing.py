"""Hostile inputs neither crash nor escape: every target with its seeds, what once broke it, and mutations of both.

S2, S7, S14, S19. `scripts/fuzz` does the same for longer, and finds more.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.target import Target
from fuzzing.targets import TARGETS

LONGEST = 8192  # bytes of an input; the limits of the parsers are tested elsewhere

fragments = st.binary(max_size=12) | st.sampled_from(
    [
        b"\r\n",
        b"\r\n--b-0",
        b"--",
        b"\0",
        b'"',
        b"[",
        b"{",
        b",",
        b"\xff",
        b"..",
        b"/",
        b"\xe2\x80\xae",
        b"1e999",
        b"9" * 24,
    ]
)


@st.composite
def mutations(draw: st.DrawFn, target: Target) -> bytes:
    """A seed with some of it replaced, doubled, left out, or cut off; now and then bytes of no origin."""
    data = draw(st.sampled_from(target.seeds + target.regressions))
    for _ in range(draw(st.integers(0, 5))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        match draw(st.integers(0, 3)):
            case 0:
                data = data[:start] + draw(fragments) + data[min(end, start + 8) :]
            case 1:
                data = data[:end] + data[start:]
            case 2:
                data = data[:start] + data[end:]
            case _:
                data = data[:start] + draw(fragments) + data[start:]
    return data[:LONGEST]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_known(target: Target) -> None:
    for data in (b"", *target.seeds, *target.regressions):
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_new(target: Target) -> None:
    @settings(
        max_examples=40 if target.slow else 200,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(target))
    def fed(data: bytes) -> None:
        target.run(data)

    fed()
