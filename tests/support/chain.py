"""Processes that many tests share: starting one takes longer than most tests."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.cli import Fastws, stw, wts
from tests.support.rawws import BINARY, CLOSE, Reader, accept, frame, request
from tests.support.services import Handler, Switch, ask, connect, echo, reset


@dataclass(slots=True)
class Chain:
    """stw → wts → a service, or the half of it that a file needs.

    Attributes:
        service: the last one; :meth:`serve` says what it does.
        processes: near first.
        files: how many descriptors each holds when nobody is connected.
    """

    service: Switch
    processes: list[Fastws]
    files: list[int]

    @property
    def near(self) -> Fastws:
        """The process that a test connects to."""
        return self.processes[0]

    @property
    def far(self) -> Fastws:
        """The process in front of the service."""
        return self.processes[-1]

    def serve(self, handle: Handler) -> Switch:
        """Let ``handle`` have the next connections; returns the service."""
        self.service.next = handle
        return self.service

    def renew(self) -> None:
        """Forget what was seen and logged once every connection has ended."""
        for process, files in zip(self.processes, self.files, strict=True):
            process.mark_when_quiet(files)
        self.service.seen.clear()

    def check(self) -> None:
        """Nothing was logged that a user would report."""
        assert not self.service.errors
        for process in self.processes:
            assert "Traceback" not in process.text
            assert " ERROR " not in process.text


def _chain(service: Switch, *processes: Fastws) -> Chain:
    """Count descriptors after a first connection: loops open some of theirs then."""
    near = processes[0]
    with connect(near.port) as sock:
        if near.arguments[0] == "wts":
            sock.sendall(request())
            assert Reader(sock).head().status == 101
        else:
            assert ask(sock, b"first") == b"first"
        reset(sock)
    for process in processes:
        process.wait_for(" in=")
    return Chain(service, [*processes], [process.files() for process in processes])


@contextlib.contextmanager
def whole_chain(*options: str) -> Iterator[Chain]:
    """stw and wts with these options, in front of an echo."""
    with Switch(echo) as service, wts(service.port, *options) as far:
        with stw(far.url, *options) as near:
            yield _chain(service, near, far)


@contextlib.contextmanager
def lone_wts(*options: str) -> Iterator[Chain]:
    """wts in front of an echo."""
    with Switch(echo) as service, wts(service.port, *options) as far:
        yield _chain(service, far)


@contextlib.contextmanager
def lone_stw(*options: str) -> Iterator[Chain]:
    """stw in front of a WebSocket echo that is no fastws."""
    with Switch(ws_echo) as service:
        with stw(f"ws://127.0.0.1:{service.port}/", *options) as near:
            yield _chain(service, near)


def ws_echo(sock: object) -> None:
    """Send every payload back until the Close."""
    reader, _ = accept(sock)  # type: ignore[arg-type]
    while (got := reader.frame()).opcode != CLOSE:
        reader.sock.sendall(frame(BINARY, got.payload, key=None))
