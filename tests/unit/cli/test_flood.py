"""Lines of one kind are bounded a minute; the process's own lines never are."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from fastws.cli import log
from fastws.cli.flood import MAX_KINDS, FloodFilter, Tally, is_bounded, kind_of
from tests.support.timing import LONG


def refusal(who: str, reason: str, level: int = logging.WARNING) -> logging.LogRecord:
    record = logging.LogRecord(
        "fastws.modes", level, "", 0, "%s %s: %s", ("wts", who, reason), None
    )
    record.__dict__.update(mode="wts", client=who, reason=reason)
    return record


def plain(name: str, level: int, text: str = "x") -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, (), None)


class Kept(logging.Handler):
    """Keeps what passes, behind a filter with a clock that stands still."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.now = 1000.0
        self.flood = FloodFilter(self, limit, lambda: self.now)
        self.addFilter(self.flood)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(record.getMessage())


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept(3)
    yield handler
    timer = handler.flood._timer
    if timer is not None:
        timer.cancel()
        timer.join()


def test_first_lines_of_a_minute_pass_and_the_rest_is_one_number(kept: Kept) -> None:
    for port in range(10):
        kept.handle(refusal(f"192.0.2.1:{port}", "wrong token (--auth-token)"))
    assert kept.lines == [
        f"wts 192.0.2.1:{port}: wrong token (--auth-token)" for port in range(3)
    ]
    kept.now += 59.9
    kept.flood.report()
    assert len(kept.lines) == 3
    kept.now += 0.1
    kept.flood.report()
    assert kept.lines[3:] == [
        "7 more lines like this were left out (--log-limit): "
        "wts 192.0.2.1:9: wrong token (--auth-token)"
    ]
    last = kept.records[-1]
    assert (last.name, last.levelname) == ("fastws.modes", "WARNING")
    assert vars(last)["left_out"] == 7


def test_next_minute_begins_anew(kept: Kept) -> None:
    for minute in range(3):
        kept.lines.clear()
        for _ in range(5):
            kept.handle(refusal(f"a{minute}", "no credentials"))
        assert kept.lines == [f"wts a{minute}: no credentials"] * 3
        kept.now += 60.0
        kept.flood.report()
        assert kept.lines[3:] == [
            "2 more lines like this were left out (--log-limit): "
            f"wts a{minute}: no credentials"
        ]


def test_limit_itself_leaves_nothing_out(kept: Kept) -> None:
    for _ in range(3):
        kept.handle(refusal("a", "no credentials"))
    assert kept.flood._timer is None
    kept.now += 60.0
    kept.flood.report()
    assert len(kept.lines) == 3


def test_kinds_count_apart_and_what_a_peer_sent_makes_no_kind(kept: Kept) -> None:
    for number in range(5):
        kept.handle(refusal("a", f"Origin 'http://{number}.example' is not this host"))
        kept.handle(refusal("a", f"{number} connections of this address"))
    kept.handle(refusal("a", "wrong token (--auth-token)"))
    kept.handle(plain("fastws.net", logging.WARNING, "flow failed"))
    assert len(kept.lines) == 3 + 3 + 1 + 1
    assert kept.lines[-1] == "flow failed"


def test_number_of_kinds_is_bounded() -> None:
    tally = Tally(1)
    names = [chr(0x4E00 + number) for number in range(3 * MAX_KINDS)]
    passed = [name for name in names if tally.admits(refusal("a", name), 0.0)]
    assert passed == names[: MAX_KINDS + 1]  # the others share one count
    reports = tally.take(60.0)
    assert [vars(line)["left_out"] for line in reports] == [2 * MAX_KINDS - 1]
    passed = [name for name in names if tally.admits(refusal("a", name), 60.0)]
    assert passed == names[: MAX_KINDS + 1]
    passed = [name for name in names if tally.admits(refusal("b", name), 121.0)]
    assert passed[:MAX_KINDS] == names[:MAX_KINDS]  # quiet kinds made room


def test_process_lines_pass_and_bring_the_numbers_with_them(kept: Kept) -> None:
    for _ in range(5):
        kept.handle(refusal("a", "no credentials"))
    for _ in range(5):
        kept.handle(plain("fastws.app", logging.INFO, "wts: tokens reloaded"))
        kept.handle(plain("fastws.app", logging.ERROR, "nothing reloaded"))
    assert len(kept.lines) == 3 + 1 + 10
    assert kept.lines[3].startswith("2 more lines like this")
    kept.handle(refusal("a", "no credentials"))
    assert len(kept.lines) == 14  # the minute is still closed


@pytest.mark.parametrize(
    ("record", "bounded"),
    [
        (refusal("a", "b", logging.INFO), True),
        (refusal("a", "b", logging.DEBUG), True),
        (plain("fastws.net", logging.INFO, "TLS handshake failed"), True),
        (plain("fastws.net", logging.ERROR), True),
        (plain("asyncio", logging.ERROR), True),
        (plain("fastws.modes", logging.INFO), False),
        (plain("fastws.app", logging.WARNING), False),
        (plain("fastws.cli", logging.WARNING), False),
    ],
)
def test_what_is_bounded(record: logging.LogRecord, bounded: bool) -> None:
    assert is_bounded(record) is bounded


@pytest.mark.parametrize("count", ["bytes_in", "streams"])
def test_line_at_the_end_of_a_connection_always_passes(kept: Kept, count: str) -> None:
    for _ in range(9):
        record = refusal("a", "closed", logging.INFO)
        record.__dict__[count] = 5
        kept.handle(record)
    assert len(kept.lines) == 9


def test_kind_knows_level_and_logger() -> None:
    one = kind_of(refusal("a", "nothing at '/a'"))
    assert one == kind_of(refusal("b", "nothing at '/b'"))
    assert one != kind_of(refusal("a", "nothing at '/a'", logging.INFO))
    named = refusal("a", "nothing at '/a'")
    named.name = "fastws.net"
    assert one != kind_of(named)


def test_timer_reports_a_flood_that_has_ended(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.cli.flood.MINUTE", 0.02)
    for _ in range(5):
        kept.handle(refusal("a", "no credentials"))
    assert kept.flood._timer is not None
    kept.now += 1.0
    while True:  # it may have rung before that, and then rings again
        with kept.flood._lock:
            timer = kept.flood._timer
        if timer is None:
            break
        timer.join(LONG)
        assert not timer.is_alive()
    assert [line[:6] for line in kept.lines[3:]] == ["2 more"]


@pytest.mark.parametrize(
    ("level", "limit", "count"), [("info", 2, 2), ("info", 0, 9), ("debug", 2, 9)]
)
def test_setup_takes_the_limit(
    level: str, limit: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ours = logging.getLogger(), logging.getLogger("fastws")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    stream = io.StringIO()
    try:
        log.setup(level, "json", stream, limit=limit)
        for _ in range(9):
            logging.getLogger("fastws.modes").warning("denied")
        logging.getLogger("fastws.app").info("stopped")
    finally:
        root.handlers[:], logging.raiseExceptions = before[0], before[3]
        root.setLevel(before[1])
        ours.setLevel(before[2])
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines[:count]] == ["denied"] * count
    assert [line.get("left_out") for line in lines[count:]] == (
        [7, None] if count == 2 else [None]
    )
