"""The parent of the workers, where a hostile system meets it."""

import errno
import os
import signal
import time

import pytest

from fastws.workers import RELOAD, Crew, describe_status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (signal.SIGKILL, "was killed by SIGKILL"),
        (40, "was killed by signal 40"),
        (3 << 8, "ended with status 3"),
    ],
)
def test_every_end_has_a_name(status: int, text: str) -> None:
    assert describe_status(status) == text


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux' /proc")
def test_fork_that_fails_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    crew = Crew(1, lambda number, orders: 0, lambda: None)
    worker = crew.workers[0]
    before = open_descriptors()
    now = time.monotonic()
    crew._start(worker)
    assert worker.pid == 0
    assert worker.due > now
    assert open_descriptors() == before
    text = "worker 1 is not started: Resource temporarily unavailable: the next one"
    assert text in caplog.text


def test_worker_that_reads_nothing_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fork", lambda: 1)
    crew = Crew(1, lambda number, orders: 0, lambda: None)
    worker = crew.workers[0]
    keep: list[int] = []
    close = os.close
    monkeypatch.setattr(os, "close", keep.append)  # the end that a worker would read
    crew._start(worker)
    monkeypatch.setattr(os, "close", close)
    assert not os.get_blocking(worker.orders)
    for _ in range(200_000):  # more than a pipe holds
        worker.tell(RELOAD)
    worker.bury()
    for descriptor in keep:
        close(descriptor)
