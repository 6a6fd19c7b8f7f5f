"""Lists that are longer than one request should ask for.

A page is asked for by offset. The server says how long the list is, so after the first page the others come a few at a
time. A list that changes its length meanwhile has shifted under the pages, and rows may have slipped between two of
them: it is walked again. One that never holds still is given as everything that was seen of it. Rows are told apart by
their identity, so none is listed twice.

A list that never ends is refused rather than collected until the memory is full.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from kheopsfs.errors import BadAnswerError, KheopsfsError
from kheopsfs.kheops.records import Record

R = TypeVar("R", bound=Record)

# Rows. About 1.2 MB of studies: some milliseconds to parse, during which nothing else runs.
PAGE_SIZE = 1000

# Pages at a time. The server has ten database connections, and readers of images want some too.
_SIDE_BY_SIDE = 4

# Rows of one list, bytes of them as they are packed, and pages: what a server may make us collect, and wait for.
_ROWS_LIMIT = 1_000_000
_BYTES_LIMIT = 512 * 1024 * 1024
_PAGES_LIMIT = 10_000

# Walks before a list that keeps changing is taken as it is.
_WALKS = 3


@dataclass(frozen=True)
class Page(Generic[R]):
    """One page.

    Attributes:
        records: the usable rows.
        rows: how many rows the server gave, usable or not.
        total: how many rows the whole list has; None if the server does not say.
    """

    records: Sequence[R]
    rows: int
    total: int | None


Fetch = Callable[[int], Awaitable[Page[R]]]


async def all_pages(fetch: Fetch[R], identity: Callable[[R], str]) -> list[R]:
    """The whole list, in the server's order.

    Args:
        fetch: gets the page at an offset; at most `PAGE_SIZE` rows.
        identity: what tells two records apart.

    Raises:
        KheopsfsError: what the first page to fail raised.
    """
    seen: dict[str, R] = {}
    for _ in range(_WALKS):
        pages, steady = await _walk(_limited(fetch), identity)
        found = {identity(record): record for page in pages for record in page.records}
        if steady:
            return list(found.values())
        seen |= found
    return list(seen.values())


class ListLimits:
    """What one list has taken so far.

    Raises, from `take`:
        BadAnswerError: more than any honest list.
    """

    def __init__(self) -> None:
        self._pages = 0
        self._rows = 0
        self._bytes = 0

    def take(self, rows: int, records: Iterable[Record]) -> None:
        """So many more rows came, usable or not, and these are the usable ones."""
        self._pages += 1
        self._rows += rows
        self._bytes += sum(len(record.packed) for record in records)
        if self._pages > _PAGES_LIMIT or self._rows > _ROWS_LIMIT or self._bytes > _BYTES_LIMIT:
            raise BadAnswerError(f"A list of the server does not end: {self._rows} rows have come.")


def _limited(fetch: Fetch[R]) -> Fetch[R]:
    """The same, until it is too much."""
    limits = ListLimits()

    async def limited(offset: int) -> Page[R]:
        page = await fetch(offset)
        limits.take(page.rows, page.records)
        return page

    return limited


async def _walk(fetch: Fetch[R], identity: Callable[[R], str]) -> tuple[list[Page[R]], bool]:
    """All pages once, and whether the list held still."""
    first = await fetch(0)
    if first.total is None:
        return await _walk_blindly(fetch, identity, first), True
    if not first.rows:
        return [first], True
    # A server may have a page size of its own, below ours.
    offsets = iter(range(first.rows, first.total, first.rows))
    rest = await _side_by_side(fetch, offsets)
    return [first, *rest], all(page.total == first.total and page.rows for page in rest)


async def _walk_blindly(fetch: Fetch[R], identity: Callable[[R], str], page: Page[R]) -> list[Page[R]]:
    """Without a total, the last page is one that is not full; or that says nothing new, if offsets are ignored."""
    pages = [page]
    seen = set(map(identity, page.records))
    while page.rows >= PAGE_SIZE:
        page = await fetch(sum(page.rows for page in pages))
        before = len(seen)
        seen.update(map(identity, page.records))
        if len(seen) == before:
            break
        pages.append(page)
    return pages


async def _side_by_side(fetch: Fetch[R], offsets: Iterator[int]) -> list[Page[R]]:
    """The pages at these offsets, in order, up to an empty one."""
    pages: dict[int, Page[R]] = {}
    failures: list[KheopsfsError] = []

    async def work() -> None:
        # The workers share the iterator. Nothing is awaited between taking an offset and asking for it.
        for offset in offsets:
            try:
                pages[offset] = await fetch(offset)
            except KheopsfsError as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()
            else:
                if not pages[offset].rows:
                    return

    async with trio.open_nursery() as nursery:
        for _ in range(_SIDE_BY_SIDE):
            nursery.start_soon(work)
    if failures:
        raise failures[0]
    return [pages[offset] for offset in sorted(pages)]
