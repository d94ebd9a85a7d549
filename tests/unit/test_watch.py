"""What is looked at once a second: files, and whether there is anything to do."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastws import watch
from fastws.exceptions import ConfigError
from fastws.modes.parts import Part
from fastws.watch import Watch
from tests.support.timing import SHORT, UNIT


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", UNIT / 20)


def runner(*parts: Part, active: int = 0) -> Any:
    listener = SimpleNamespace(active=active)
    return SimpleNamespace(name="wts", parts=list(parts), listener=listener)


async def until(check: Any) -> None:
    async with asyncio.timeout(SHORT):
        while not check():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(UNIT / 50)


def test_changed_file_is_read_again_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    read: list[str] = []
    parts = [
        Part("letters", [str(file)], lambda: read.append("a")),
        Part("digits", [str(other)], lambda: read.append("b")),
        Part("nothing", [None], lambda: read.append("c")),
    ]

    async def main() -> None:
        looking = Watch([runner(*parts)], stop=lambda: None)
        await asyncio.sleep(UNIT / 4)
        assert read == []
        file.write_text("22")
        await until(lambda: read)
        await asyncio.sleep(UNIT / 4)
        assert read == ["a"]
        other.write_text("new")
        await until(lambda: len(read) == 2)
        assert read == ["a", "b"]
        looking.close()
        file.write_text("333")
        await asyncio.sleep(UNIT / 4)
        assert read == ["a", "b"]

    with caplog.at_level("INFO"):
        asyncio.run(main())
    assert caplog.messages == ["wts: letters reloaded", "wts: digits reloaded"]


def test_bad_file_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a"

    def load() -> None:
        raise ConfigError(f"--cert {file}", "is bad")

    async def main() -> None:
        looking = Watch([runner(Part("letters", [str(file)], load))], stop=lambda: None)
        file.write_text("x")
        await until(lambda: caplog.messages)
        await asyncio.sleep(UNIT / 4)
        looking.close()

    asyncio.run(main())
    assert caplog.messages == [f"wts: letters: nothing reloaded: --cert {file}: is bad"]


def test_no_timer_where_there_is_nothing_to_look_at() -> None:
    async def main() -> None:
        looking = Watch([runner(Part("x", [None], lambda: None))], stop=lambda: None)
        assert looking._timer is None
        looking.close()

    asyncio.run(main())


def test_idle_process_stops_and_a_busy_one_does_not() -> None:
    async def main() -> None:
        stopped: list[bool] = []
        busy, idle = runner(active=1), runner()
        looking = Watch(
            [busy, idle], idle_exit=UNIT / 2, stop=lambda: stopped.append(True)
        )
        await asyncio.sleep(UNIT)
        assert not stopped
        busy.listener.active = 0
        await until(lambda: stopped)
        looking.close()

    asyncio.run(main())
