"""A front end that is far away: what passes it arrives later."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tests.support.timing import LONG

_BLOCK = 64 * 1024


class FarAway:
    """Relays to ``port`` of 127.0.0.1, each way with a delay; a context manager.

    Round trips are counted by cause, not by the clock, as a Lamport clock does:
    what the near end says is one later than what it had heard by then, and what the
    far end answers is as late as what that had heard. A busy machine changes nothing.

    Args:
        port: to relay to.
        delay: seconds, one way.

    Attributes:
        port: to connect to.
        behind: the port to relay to, from the next connection on.
        rounds: round trips behind what the near end has heard so far.
    """

    def __init__(self, port: int, delay: float) -> None:
        self.behind = port
        self._delay = delay
        self.port = 0
        self.rounds = 0
        self._asked = 0  # the number of the latest round trip the far end knows of
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FarAway":
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONG)
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(LONG)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: Any, writer: Any) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.behind)
        try:
            there = self._copy(reader, up_writer, self._say, self._ask)
            back = self._copy(up_reader, writer, self._answer, self._hear)
            await asyncio.gather(there, back)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            up_writer.close()

    def _say(self) -> int:
        return self.rounds + 1

    def _ask(self, number: int) -> None:
        self._asked = max(self._asked, number)

    def _answer(self) -> int:
        return self._asked

    def _hear(self, number: int) -> None:
        self.rounds = max(self.rounds, number)

    async def _copy(
        self,
        reader: Any,
        writer: Any,
        leaves: Callable[[], int],
        arrives: Callable[[int], None],
    ) -> None:
        def deliver(data: bytes, number: int) -> None:
            arrives(number)
            writer.write(data)

        while data := await reader.read(_BLOCK):
            self._loop.call_later(self._delay, deliver, data, leaves())
        await asyncio.sleep(self._delay)
        writer.write_eof() if writer.can_write_eof() else writer.close()
