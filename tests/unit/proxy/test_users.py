"""Users of a proxy."""

import asyncio
from pathlib import Path

import pytest

from fastws.http.auth import Users
from fastws.http.password import hash_password
from fastws.proxy.users import Accounts, host_of


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
