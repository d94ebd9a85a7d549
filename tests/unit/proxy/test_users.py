"""Users of a proxy."""

import asyncio
from pathlib import Path

import pytest

from fastws.http.answers import Refusal
from fastws.http.auth import Users
from fastws.http.limit import Attempts
from fastws.http.password import hash_password
from fastws.net.stream import host_of
from fastws.proxy.users import Accounts


def admits(accounts: Accounts, user: str, password: str) -> bool:
    return asyncio.run(accounts.admit(user, password))


@pytest.mark.parametrize(
    ("user", "password", "is_right"),
    [
        ("alice", "se:cret", True),
        ("alice", "se", False),
        ("alice:se", "cret", False),
        ("bob", "se:cret", False),
        ("", "", False),
        ("carl", "", True),
        ("ünal", "pä", True),
    ],
)
def test_pairs(user: str, password: str, is_right: bool) -> None:
    accounts = Accounts(["alice:se:cret", "carl:", "ünal:pä"], None)
    assert admits(accounts, user, password) is is_right


def test_clients_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def admit(user: str, password: str, client: str) -> bool:
        asked.append(client)
        return False

    users = Users("unused")
    monkeypatch.setattr(users, "admit", admit)
    accounts = Accounts(["alice:pw"], users)
    for peer in (("192.0.2.1", 7), ("fe80::1%eth0", 7, 0, 2), "", None):
        assert not asyncio.run(accounts.admit("a", "b", host_of(peer)))
    assert asked == ["192.0.2.1", "fe80::/64", "", ""]


def test_file_beside_pairs(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"dora:{hash_password('pw', bytes(16))}\n", "utf-8")
    users = Users(str(path))
    users.load()
    accounts = Accounts(["alice:pw2"], users)
    assert admits(accounts, "dora", "pw")
    assert admits(accounts, "alice", "pw2")
    assert not admits(accounts, "dora", "pw2")
    assert not admits(accounts, "alice", "pw")
    assert not admits(Accounts([], None), "", "")


def told(accounts: Accounts, password: str, client: str = "192.0.2.1") -> bool | str:
    """Whether Alice is let in, or the status and reason of a refusal."""
    try:
        return asyncio.run(accounts.admit("alice", password, client))
    except Refusal as refusal:
        return f"{refusal.http_status} {refusal.reason}"


def test_wrong_passwords_use_up_the_attempts() -> None:
    accounts = Accounts(["alice:pw"], None, Attempts(2, 60.0, lambda: 0.0))
    too_many = "429 2 wrong passwords of this address (--auth-attempts)"
    assert [told(accounts, "pw") for _ in range(5)] == [True] * 5
    assert [told(accounts, "no") for _ in range(3)] == [False, False, too_many]
    assert told(accounts, "pw") == too_many
    assert told(accounts, "pw", "192.0.2.2") is True
    assert told(accounts, "no", "") is False  # a unix socket has no address
    assert told(accounts, "pw", "") is True


def test_guesses_at_the_same_time_are_limited_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of ten checks that end together the limit's number is told how they went."""
    users = Users("unused")
    ended = asyncio.Event()

    async def admit(user: str, password: str, client: str) -> bool:
        await ended.wait()
        return password == "pw"

    monkeypatch.setattr(users, "admit", admit)
    accounts = Accounts([], users, Attempts(3, 60.0, lambda: 0.0))

    async def guess(password: str) -> bool | int | None:
        try:
            return await accounts.admit("alice", password, "192.0.2.1")
        except Refusal as refusal:
            return refusal.http_status

    async def guess_all() -> list[bool | int | None]:
        guesses = [asyncio.create_task(guess(word)) for word in [*"abcdefghi", "pw"]]
        await asyncio.sleep(0)
        ended.set()
        return await asyncio.gather(*guesses)

    assert asyncio.run(guess_all()) == [False] * 3 + [429] * 7
