"""The programs of docs/howto/streams.md run and print what they should."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.cli import wts
from tests.support.programs import ROOT, postgres, run

TEXT = (ROOT / "docs" / "howto" / "streams.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def program_with(word: str) -> str:
    """The only program with ``word`` in it."""
    (found,) = [text for text in PROGRAMS if word in text]
    return str(found)


def said_by(program: str) -> list[str]:
    """What it prints."""
    return run(sys.executable, "-c", program).decode().splitlines()


def test_every_program_is_run() -> None:
    assert len(PROGRAMS) == 5


def test_stream() -> None:
    assert said_by(program_with("readline()")) == ["b'ONE\\n'", "b'TWO\\n'"]


def test_joining() -> None:
    said = said_by(program_with("copy_bidirectional"))
    assert sorted(said) == ["12 12 closed", "b'THROUGH BOTH'"]


def test_transport() -> None:
    assert said_by(program_with("Greeter")) == ["b'hello'"]


def test_asyncssh() -> None:
    """A server of asyncssh behind ``wts``."""
    asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")

    class Open(asyncssh.SSHServer):  # type: ignore[misc]
        def begin_auth(self, username: str) -> bool:
            return False

    async def serve(process: object) -> None:
        process.stdout.write("hello\n")  # type: ignore[attr-defined]
        process.exit(0)  # type: ignore[attr-defined]

    async def main() -> list[str]:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            server_factory=Open,
            process_factory=serve,
        )
        with wts(server.get_port()) as far:
            program = program_with("asyncssh")
            changes = {
                "wss://www.example.com/ssh": far.url,
                '"inside.example", ': '"inside.example", known_hosts=None, config=[], '
                'username="me", ',
            }
            for old, new in changes.items():
                assert old in program
                program = program.replace(old, new)
            said = await asyncio.to_thread(said_by, program)
        server.close()
        await server.wait_closed()
        return said

    assert asyncio.run(main()) == ["hello", ""]


def test_asyncpg(open_place: Path, tmp_path: Path) -> None:
    """PostgreSQL behind ``wts``: the path of the forwarding is asyncpg's host."""
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    with postgres(open_place, tmp_path) as port, wts(port) as far:
        program = program_with("asyncpg")
        assert "wss://www.example.com/db" in program
        program = program.replace("wss://www.example.com/db", far.url)
        assert said_by(program) == ["42"]


def test_psql(open_place: Path, tmp_path: Path) -> None:
    """libpq takes the directory."""
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed")
    with postgres(open_place, tmp_path) as port, wts(port) as far:
        program = f"""
import asyncio, os, fastws
async def main():
    async with fastws.forward({far.url!r}, port=5433) as path:
        child = await asyncio.create_subprocess_exec(
            {psql!r}, "-h", os.path.dirname(path), "-p", "5433", "-U", "me", "-tAc",
            "SELECT length(repeat('x', 1000000))", "postgres")
        assert await child.wait() == 0
asyncio.run(main())
"""
        assert said_by(program) == ["1000000"]


def test_directory_of_a_forwarding_is_gone() -> None:
    program = """
import asyncio, os, fastws
async def main():
    async with fastws.forward("ws://127.0.0.1:1/") as path:
        print(os.path.exists(path))
    print(os.path.exists(os.path.dirname(path)))
asyncio.run(main())
"""
    assert said_by(program) == ["True", "False"]
