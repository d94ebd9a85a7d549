"""Large files are read beside the loop; until they are whole the old state serves."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastws.config.options import OPTIONS
from fastws.config.schema import WsToTcp
from fastws.config.secret_file import SecretFile
from fastws.exceptions import ConfigError
from fastws.modes.parts import LARGE, LargePart, read_for
from tests.support.timing import LONG


class Reading:
    """A file that takes as long to read as the test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = threading.Semaphore(0)
        self.goes_on = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []
        self.used: list[str] = []
        self.now = {"-": "-"}
        self.part = LargePart("tokens", str(path), self.read)

    def write(self, sign: str, size: int = LARGE + 1) -> None:
        self.path.write_text(sign * size)

    def read(self) -> Callable[[], dict[str, str]]:
        self.threads.append(threading.current_thread())
        sign = self.path.read_text()[0]
        if threading.current_thread() is not threading.main_thread():
            self.begun.release()
            assert self.goes_on.acquire(timeout=LONG)
        if sign == "!":
            raise ConfigError("--token-file", "has no usable line")
        return lambda: self.use(sign)

    def use(self, sign: str) -> dict[str, str]:
        self.used.append(sign)
        old, self.now = self.now, {sign: sign}
        return old


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path / "tokens")


async def until_begun(reading: Reading) -> None:
    """The loop goes on while a thread reads; here, until it has begun."""
    async with asyncio.timeout(LONG):
        while not reading.begun.acquire(blocking=False):  # noqa: ASYNC110 (a thread)
            await asyncio.sleep(0.001)


async def until_done(reading: Reading) -> None:
    async with asyncio.timeout(LONG):
        while reading.part._task is not None:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.001)


def test_large_file_is_read_in_a_thread_and_used_in_the_loop(reading: Reading) -> None:
    reports: list[ConfigError | None] = []
    old = reading.now

    async def main() -> None:
        reading.part.reload_soon(reports.append)
        await until_begun(reading)
        assert (reading.used, reports) == ([], [])
        assert old == {"-": "-"}
        reading.goes_on.release()
        await until_done(reading)

    reading.write("a")
    asyncio.run(main())
    assert (reading.used, reports) == (["a"], [None])
    assert (reading.now, old) == ({"a": "a"}, {})
    assert reading.threads[0] is not threading.main_thread()


@pytest.mark.parametrize("size", [1, LARGE])
def test_small_file_is_read_at_once(reading: Reading, size: int) -> None:
    reports: list[ConfigError | None] = []

    async def main() -> None:
        reading.part.reload_soon(reports.append)
        assert (reading.used, reports) == (["a"], [None])

    reading.write("a", size)
    asyncio.run(main())
    assert reading.threads == [threading.main_thread()]


def test_broken_file_is_reported_and_changes_nothing(reading: Reading) -> None:
    reports: list[ConfigError | None] = []

    async def main() -> None:
        reading.goes_on.release()
        reading.part.reload_soon(reports.append)
        await until_done(reading)

    reading.write("!")
    asyncio.run(main())
    assert [str(report) for report in reports] == ["--token-file: has no usable line"]
    assert reading.used == []


def test_change_during_the_reading_is_read_after_it(reading: Reading) -> None:
    reports: list[ConfigError | None] = []

    async def main() -> None:
        reading.part.reload_soon(reports.append)
        await until_begun(reading)
        reading.write("b")
        for _ in range(3):
            reading.part.reload_soon(reports.append)
        for _ in range(2):
            reading.goes_on.release()
        await until_done(reading)

    reading.write("a")
    asyncio.run(main())
    assert (reading.used, reports) == (["a", "b"], [None, None])


def test_directory_counts_all_its_files(tmp_path: Path) -> None:
    reading = Reading(tmp_path / "a")
    reading.write("a", LARGE // 2)
    (tmp_path / "b").write_text("b" * (LARGE // 2 + 1))
    reading.part.paths = (str(tmp_path),)
    reading.goes_on.release()

    async def main() -> None:
        reading.part.reload_soon(lambda error: None)
        await until_done(reading)

    asyncio.run(main())
    assert reading.threads[0] is not threading.main_thread()


class Owner:
    """A runner, as far as secrets go."""

    def __init__(self) -> None:
        self.spec: Any = WsToTcp(listen="0", target="h:1", auth_token=("old",))

    def adopt(self, spec: Any) -> None:
        self.spec = spec


def secret(tmp_path: Path, flag: str, text: str) -> SecretFile:
    (option,) = [option for option in OPTIONS if option.flag == flag]
    file = tmp_path / option.attribute
    file.write_text(text)
    return SecretFile(option, option.variable + "_FILE", str(file))


def test_secret_read_beside_another_one_undoes_nothing(tmp_path: Path) -> None:
    owner = Owner()
    first = read_for(owner, secret(tmp_path, "--auth-token", "one\ntwo\n"))
    other = read_for(owner, secret(tmp_path, "--header", "A: b"))
    assert owner.spec.auth_token == ("old",)
    assert first() == {}
    assert other() == {}
    assert owner.spec.auth_token == ("one", "two")
    assert owner.spec.headers == (("A", "b"),)
