"""Instances on their way out of the PACS, and what can go wrong with them there.

Multipart bodies, zips and bare DICOM bodies are all made from the same stream of parts, so a PACS that fails fails all
of them in the same way: the stream stops, and what was begun is left unfinished.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kheopsfs.demo.accounts import Principal
from kheopsfs.demo.answers import Call, UpstreamError
from kheopsfs.demo.bodies import Body, Bytes, MemoryBody
from kheopsfs.demo.faults import Plan
from kheopsfs.demo.library import Instance, Series
from kheopsfs.demo.pacs import shuffled


@dataclass
class Part:
    """One instance on its way out, with the media type of its part."""

    media_type: str
    body: Body


CLOSING = -1
"""The number that stands for whatever closes a body after its last part."""


def failure(plan: Plan) -> Callable[[int], int | None]:
    """After how many bytes of part `n` the PACS fails, None if it does not; `CLOSING` is what closes the body."""
    fault = plan.get("upstream")
    if fault is None:
        return lambda _: None
    after, byte = fault.options.get("parts", CLOSING), fault.options.get("byte", 0)
    return lambda number: byte if number == after else None


def cut(body: Body, fails_at: int | None) -> Iterator[Bytes]:
    """The pieces of a body up to the byte at which the PACS fails.

    Raises:
        UpstreamError: there.
    """
    if fails_at is None:
        yield from body.pieces()
        return
    yield body.read_at(0, fails_at)
    raise UpstreamError


def of_series(call: Call, principal: Principal, visible: list[Series]) -> Iterator[tuple[Series, Instance]]:
    """The instances of one series after the other, each series looked at again when its turn comes.

    Raises:
        UpstreamError: the token died or lost a series meanwhile (401), or the PACS does not have one (502).
    """
    for one in visible:
        current = principal.series(call.library.studies.get(one.StudyInstanceUID)) if principal.is_live() else []
        if one.SeriesInstanceUID not in {series.SeriesInstanceUID for series in current}:
            raise UpstreamError(401)
        if not one.instances:
            raise UpstreamError(502)
        for instance in shuffled(call, one):
            yield one, instance


def parts(instances: Iterator[Instance], make: Callable[[Instance], Part], call: Call) -> Iterator[Part]:
    """The parts of a body, with the faults that change which ones there are.

    Args:
        instances: what should be delivered; may raise `UpstreamError` at any point.
        make: the part of an instance.
        call: its plan decides.
    """
    plan = call.plan
    for number, instance in enumerate(instances):
        if number == plan.option("partial", "parts"):
            return
        part = make(instance)
        if hits(plan, "wrong_instance", number):
            part = make(stranger(call, instance)[1])
        elif hits(plan, "junk", number):
            part = Part(part.media_type, MemoryBody(b"this is no DICOM file\r\n" * 1000))
        yield part
        if hits(plan, "duplicate", number):
            yield part


def hits(plan: Plan, kind: str, number: int) -> bool:
    """Whether a fault of this kind strikes part `number`."""
    return plan.get(kind) is not None and plan.option(kind, "part", 0) == number


def stranger(call: Call, asked: Instance) -> tuple[Series, Instance]:
    """The instance that is delivered in place of the one that was asked for, and its series."""
    wanted = call.plan.option("wrong_instance", "uid")
    every = (series for study in call.library.studies.values() for series in study.series.values())
    others = ((series, one) for series in every for one in series.instances.values() if one is not asked)
    return next((series, one) for series, one in others if wanted in (None, one.SOPInstanceUID))
