"""Many clients and their service in one loop: they carry out planned visits."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.frontend import Book, Relay
from tests.support.ledger import Side
from tests.support.timing import LONG, UNIT
from tests.support.veth import Veth
from tests.support.visits import HEAD, Ending, Plans, Visit

PATIENCE = 6 * LONG  # seconds for one visit that is to end in order


@dataclass(slots=True)
class Crowd:
    """Clients of a stw, and the service behind wts.

    Attributes:
        near: the log of stw.
        plans: what they do.
        ways: where stw listens, each taken in turn.
        dark: where it listens with ``relay`` behind it.
        hosts: addresses that clients have.
        cable: to a host whose addresses can vanish.
    """

    plans: Plans
    cable: Veth | None
    hosts: list[str]
    ways: list[tuple[str, int]] = field(default_factory=list)
    dark: tuple[str, int] = ("", 0)
    relay: Relay | None = None
    near: Book | None = None

    # -- the service -----------------------------------------------------------------

    async def serve(self, listener: socket.socket) -> None:
        """Accept until cancelled; any other failure is the test's."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            while True:
                sock, _ = await loop.sock_accept(listener)
                group.create_task(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with sock:
            number = await read_number(sock)
            if number is None:
                return  # it broke before it said who it is
            visit = self.plans.visits[number]
            assert visit.far is None, f"came twice: {visit}"
            side = visit.far = Side(sock, number + 1)
            if visit.ending is Ending.FAIL:
                await side.talk_for(visit.service, visit.after)
                side.reset()
            else:
                await side.talk(visit.service)
            visit.is_served = True

    # -- clients ---------------------------------------------------------------------

    async def come(self, until: float) -> None:
        """One client after the other till that loop time."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await self.visit(self.plans.next())

    async def visit(self, visit: Visit) -> None:
        """A client that ends it by itself, or sees it end."""
        async with asyncio.timeout(PATIENCE):
            side = await self._arrive(visit)
            if side is None:
                return
            if visit.ending is Ending.RESET:
                await side.talk_for(visit.client, visit.after)
                side.reset()
                return
            await side.talk(visit.client)
            side.sock.close()
            if visit.ending is Ending.ORDER:
                await wait_for(lambda: visit.is_served)

    async def _arrive(self, visit: Visit, host: str = "") -> Side | None:
        """Connect and say the number, unless it is only a knock at the door."""
        loop = asyncio.get_running_loop()
        sock = socket.socket() if self.cable is None else self.cable.open_socket()
        sock.setblocking(False)
        turn = visit.number // 2
        sock.bind((host or self.hosts[turn % len(self.hosts)], 0))
        is_dark = visit.ending is Ending.DARK
        way = self.dark if is_dark else self.ways[turn % len(self.ways)]
        await loop.sock_connect(sock, way)
        visit.who = "{}:{}".format(*sock.getsockname())
        side = visit.near = Side(sock, visit.number)
        if visit.ending is Ending.KNOCK:
            side.reset()
            return None
        try:
            await loop.sock_sendall(sock, visit.number.to_bytes(HEAD, "big"))
        except OSError as error:
            side.errors.append(error)
        return side

    async def vanish(self, until: float, host: str, ending: Ending) -> None:
        """One client after the other vanishes, each when the last is forgotten."""
        assert self.cable is not None
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            visit = self.plans.next(ending)
            side = await self._arrive(visit, host)
            assert side is not None
            if ending is Ending.FADE:
                talk = asyncio.create_task(side.talk(visit.client))
                await wait_for(lambda visit=visit: is_silent(visit))
                talk.cancel()
            else:
                await wait_for(lambda visit=visit: visit.far is not None)
                await side.talk_for(visit.client, visit.after)
            await asyncio.to_thread(self.cable.switch_off, host)
            patience = PATIENCE if ending is Ending.VANISH else 3 * PATIENCE
            await wait_for(lambda visit=visit: self.is_forgotten(visit), patience)
            side.reset()
            await asyncio.to_thread(self.cable.switch_on, host)

    async def darken(self, until: float) -> None:
        """Three at a time lose their way in the middle, without a word."""
        assert self.relay is not None
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            visits = [self.plans.next(Ending.DARK) for _ in range(3)]
            async with asyncio.TaskGroup() as group:
                for visit in visits:
                    group.create_task(self.visit(visit))
                await wait_for(lambda visits=visits: all(map(is_silent, visits)))
                self.relay.darken()
            await wait_for(
                lambda visits=visits: all(map(self.is_forgotten, visits)), PATIENCE
            )
            self.relay.forget()

    def is_forgotten(self, visit: Visit) -> bool:
        """stw has logged its end, and the service has seen it."""
        assert self.near is not None
        self.near.update()
        return visit.is_served and visit.who in self.near.by_client


def is_silent(visit: Visit) -> bool:
    """Everything was said on both sides."""
    if visit.near is None or visit.far is None:
        return False
    said = visit.near.received, visit.far.received
    return said == (visit.service.sends, visit.client.sends)


async def read_number(sock: socket.socket) -> int | None:
    """The number of the visit; ``None`` if it ended before that."""
    loop = asyncio.get_running_loop()
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < HEAD:
            more = await loop.sock_recv(sock, HEAD - len(data))
            if not more:
                return None
            data += more
        return int.from_bytes(data, "big")
    return None


async def wait_for(check: Callable[[], bool], timeout: float = LONG) -> None:
    """Wait until ``check()``; fail after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(UNIT / 5)
