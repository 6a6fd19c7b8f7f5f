"""One instance by a request of its own: whoever wants it joins, whoever may not wait reads along.

An answer that was bad is asked for again, `ATTEMPTS` times in all; a stall is not, because whoever waited in vain for
as long as the idle deadline has waited enough. A retrieval that only readers along are interested in outlives the last
of them by `LINGER_SECONDS`: programs open a file, look at its head, close it and open it again.
"""

import logging
import random
from collections.abc import Callable

import trio

from kheopsfs.errors import BadAnswerError
from kheopsfs.fetch.arriving import Arrival, ArrivingBody
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.joined import Joined, Ticket
from kheopsfs.fetch.line import Priority
from kheopsfs.fetch.sizes import ceiling
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.contents import Content, InstanceFile
from kheopsfs.kheops.records import Instance
from kheopsfs.kheops.retrieve import InstanceBegun, InstanceBytes, InstanceProven, instances
from kheopsfs.store import Body

log = logging.getLogger(__name__)

ATTEMPTS = 3  # retrievals of one instance whose answers were bad, before the reader gets EIO
RETRY_PAUSE = 0.2  # seconds, growing and jittered, between attempts
LINGER_SECONDS = 30.0  # as long as somebody who scrolls through a series may pause


class SingleRetrievals:
    """The requests for single instances that are under way."""

    def __init__(self, gate: Gate, intake: Intake, *, key: Callable[[Content], str]) -> None:
        self._gate = gate
        self._intake = intake
        self._key = key
        self._flights: Joined[str, Body] = Joined(intake.nursery, dispose=Body.close)
        self._arrivals: dict[str, Arrival] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def whole(self, instance: Instance) -> Body:
        """The whole instance; the caller closes it.

        Raises:
            KheopsfsError: as `retrieve.instances`, or the disk's.
        """
        ticket = self._join(instance)
        try:
            return (await ticket.result()).dup()
        finally:
            ticket.leave()

    async def readable(self, instance: Instance) -> Body | ArrivingBody:
        """The instance, perhaps while it is still arriving; the caller closes it. Raises as `whole`."""
        ticket = self._join(instance)
        arrival = self._arrivals[self._key(InstanceFile(instance))]
        try:
            while not arrival.over and not arrival.may_be_read:
                await arrival.changed.wait()
            if arrival.size is not None and arrival.may_be_read:
                along = ArrivingBody(arrival.size, arrival, ticket, self._linger)
                ticket = ticket.another()
                return along
            return (await ticket.result()).dup()
        finally:
            ticket.leave()

    async def sized(self, instance: Instance) -> None:
        """Wait until a retrieval under way knows the size, or is over."""
        arrival = self._arrivals.get(self._key(InstanceFile(instance)))
        while arrival is not None and not arrival.over and not arrival.may_be_read:
            await arrival.changed.wait()

    def _join(self, instance: Instance) -> Ticket[Body]:
        key = self._key(InstanceFile(instance))
        if key not in self._flights:
            self._arrivals[key] = Arrival(self._intake.sizes.settled(key))
        arrival = self._arrivals[key]
        return self._flights.join(key, lambda: self._fly(instance, key, arrival))

    def _linger(self, ticket: Ticket[Body]) -> None:
        async def leave_later() -> None:
            with trio.move_on_after(LINGER_SECONDS):
                await ticket.landed()
            ticket.leave()

        self._intake.nursery.start_soon(leave_later)

    async def _fly(self, instance: Instance, key: str, arrival: Arrival) -> Body:
        try:
            body = await self._insist(instance, key, arrival)
            await arrival.conclude(body)
        finally:
            arrival.end()
            if self._arrivals.get(key) is arrival:
                del self._arrivals[key]
        return body

    async def _insist(self, instance: Instance, key: str, arrival: Arrival) -> Body:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._retrieve(instance, key, arrival)
            except BadAnswerError as error:
                arrival.break_off()
                log.warning("instance %s: %s; trying again", instance.SOPInstanceUID, error)
                await trio.sleep(RETRY_PAUSE * attempt * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        return await self._retrieve(instance, key, arrival)

    async def _retrieve(self, instance: Instance, key: str, arrival: Arrival) -> Body:
        kept = await trio.to_thread.run_sync(self._intake.store.bodies.open, key)
        if kept is not None:  # it came with its series in the moment in which the reader lost patience
            return kept
        bodies: list[Body] = []
        async with (
            self._intake.spooling(lambda _key, body: bodies.append(body)) as spool,
            self._gate.request(Priority.DEMANDED, instance.SeriesInstanceUID) as client,
            instances(client, instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID) as events,
        ):
            async for event in events:
                match event:
                    case InstanceBegun(expected_size=stated_size):
                        spool.begin(ceiling(InstanceFile(instance), self._intake.store.size_limit))
                        arrival.begin(stated_size)
                        if arrival.may_be_read:
                            spool.on_progress = arrival.advance
                    case InstanceBytes(data=data):
                        await spool.write(data)
                    case InstanceProven():
                        spool.commit(key)
        return bodies[0]
