"""Log lines: one per event, safe to show, as text or JSON."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from fastws.cli import log

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("fastws")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    fields = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    source = logging._srcfile
    yield
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = fields
    logging._srcfile = source
    ours.setLevel(before[2])
    root.setLevel(before[1])


def logged(level: str, form: str, stream: io.StringIO | None = None) -> io.StringIO:
    stream = io.StringIO() if stream is None else stream
    log.setup(level, form, stream)
    return stream


def test_human_line() -> None:
    stream = logged("info", "human")
    logging.getLogger("fastws.stw").info("listening on %s", "127.0.0.1:7000")
    assert re.fullmatch(
        STAMP + r" INFO    listening on 127\.0\.0\.1:7000\n", stream.getvalue()
    )


def test_level_is_that_of_fastws_and_others_start_at_warning() -> None:
    stream = logged("debug", "human")
    logging.getLogger("fastws").debug("ours")
    logging.getLogger("asyncio").info("theirs")
    logging.getLogger("asyncio").warning("loud")
    lines = stream.getvalue().splitlines()
    assert [line.split()[-1] for line in lines] == ["ours", "loud"]


def test_level_error_is_quiet() -> None:
    stream = logged("error", "human")
    logging.getLogger("fastws").warning("x")
    assert stream.getvalue() == ""


def test_setup_twice_logs_once() -> None:
    first, second = logged("info", "human"), logged("info", "human")
    logging.getLogger("fastws").info("x")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_peer_cannot_forge_a_line_or_drive_the_terminal() -> None:
    stream = logged("info", "human")
    logging.getLogger("fastws").info("status: %s", "a\nINFO b\x1b[2J\u2028c")
    assert stream.getvalue().endswith("status: a\\nINFO b\\x1b[2J\\u2028c\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("form", ["human", "json"])
def test_peer_cannot_fill_the_log_with_one_line(form: str) -> None:
    stream = io.StringIO()
    log.setup("info", form, stream)
    logging.getLogger("fastws.x").info("%s", "a" * 4000)
    logging.getLogger("fastws.x").info("%s", "a" * 4001)
    whole, cut = stream.getvalue().splitlines()
    assert "a" * 4000 in whole
    assert "characters" not in whole
    assert "a" * 4001 not in cut
    assert "(4001 characters)" in cut


def test_traceback_follows_its_line() -> None:
    stream = logged("info", "human")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("fastws").exception("bug")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR   bug")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "RuntimeError: boom"


def test_json_line_carries_extras() -> None:
    stream = logged("info", "json")
    extra = {"id": "0123456789abcdef", "bytes_up": 5, "reason": "peer\nclosed"}
    logging.getLogger("fastws.wts").warning("end of %s", "it", extra=extra)
    text = stream.getvalue()
    assert text.count("\n") == 1
    entry = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "fastws.wts",
        "message": "end of it",
        **extra,
    }


def test_json_line_of_an_object_and_of_an_exception() -> None:
    stream = logged("info", "json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("fastws").exception("bug", extra={"what": {1, 2}.__class__})
    entry = json.loads(stream.getvalue())
    assert entry["what"] == "<class 'set'>"
    assert entry["traceback"].endswith("RuntimeError: boom")


@pytest.mark.parametrize(
    ("no_colour", "coloured"), [(None, True), ("", True), ("1", False)]
)
def test_colour_only_where_wanted(
    monkeypatch: pytest.MonkeyPatch, no_colour: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    stream = logged("info", "human", Terminal())
    logging.getLogger("fastws").warning("x")
    assert ("\x1b[33mWARNING\x1b[0m x" in stream.getvalue()) is coloured


def test_file_gets_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = logged("info", "human")
    logging.getLogger("fastws").error("x")
    assert "\x1b" not in stream.getvalue()
