"""Tokens and passwords: who gets in, what is answered, what is never repeated."""

import asyncio
import base64
import threading
from pathlib import Path

import pytest

from fastws.exceptions import ConfigError
from fastws.http import auth as module
from fastws.http.answers import Refusal
from fastws.http.auth import Auth, Tokens, Users, parse_users, token_of
from fastws.http.password import PasswordHash
from fastws.wire.head import Head

# "x" and "y" at scrypt's least cost, made with hashlib.
X = "$scrypt$ln=1,r=1,p=1$c2FsdA$Pq6nPP9sSt3hth3FmeUpbHAhFXGQIQuoDRTbeh+Qy8U"
Y = "$scrypt$ln=1,r=1,p=1$c2FsdA$iWbZSnpj/HtEOfS/uUuJARHx5jDULqLQh+WQH5ehgeg"


def request(*authorization: str) -> Head:
    fields = [("Authorization", text) for text in authorization]
    return Head("GET", "/", headers=fields)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def users(tmp_path: Path) -> Users:
    file = tmp_path / "users"
    file.write_text(f"anna:{X}\nbob:{Y}\n")
    found = Users(str(file))
    found.load()
    return found


def refused(auth: Auth, head: Head, target: str = "/") -> Refusal:
    with pytest.raises(Refusal) as caught:
        asyncio.run(auth.check(head, target))
    return caught.value


def test_tokens() -> None:
    tokens = Tokens(["one", "two"])
    assert tokens
    assert tokens.admit("one")
    assert tokens.admit("two")
    assert not tokens.admit("three")
    assert not tokens.admit("")
    assert not tokens.admit("\udcff")
    assert not Tokens([])


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/", ""),
        ("/?x=1", ""),
        ("/?access_token=a", "a"),
        ("/?x=1&access_token=a%2Bb+c", "a+b c"),
        ("/?access_token=", ""),
        ("/?access_token=a&access_token=a", ""),
        ("/?my_access_token=a", ""),
        ("/access_token=a", ""),
    ],
)
def test_token_of_a_query(target: str, token: str) -> None:
    assert token_of(target) == token


def test_challenges(users: Users) -> None:
    basic_only, both = Auth([], users), Auth(["t"], users)
    names = [value.split()[0] for _, value in refused(both, request()).headers]
    assert names == ["Basic", "Bearer"]
    assert len(refused(basic_only, request()).headers) == 1
    assert both.guards_files
    assert not Auth(["t"], None).guards_files


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((), "no credentials (--auth-token or --auth-basic)"),
        (("Bearer x",), "wrong token (--auth-token)"),
        (("Bearer",), "wrong token (--auth-token)"),
        (("Digest x",), "digest credentials are not asked for"),
        (("Secret-without-scheme",), "other credentials are not asked for"),
        (("Bearer\tsecret",), "other credentials are not asked for"),
        (("Bearer t", "Bearer t"), "no credentials"),
        (("Basic",), "malformed Basic"),
        (("Basic YW5uYQ==",), "malformed Basic"),
        (("Basic /////w==",), "malformed Basic"),
        (("Basic YW5uYTp4!",), "malformed Basic"),
        ((basic("anna", "y"),), "wrong password for 'anna'"),
        ((basic("carl", "x"),), "unknown user"),
        ((basic("anna\0x", ""),), "unknown user"),
    ],
)
def test_refusals(users: Users, fields: tuple[str, ...], reason: str) -> None:
    error = refused(Auth(["t"], users), request(*fields))
    assert error.http_status == 401
    assert error.reason.startswith(reason)


def test_admitted(users: Users) -> None:
    auth = Auth(["t"], users)

    async def main() -> None:
        for field in ("Bearer t", "BEARER   t", basic("anna", "x"), basic("bob", "y")):
            await auth.check(request(field), "/")
        await auth.check(request(), "/?access_token=t")

    asyncio.run(main())


def test_right_password_is_checked_once(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    verify = PasswordHash.verify

    def count(self: PasswordHash, password: str) -> bool:
        checked.append(password)
        return verify(self, password)

    monkeypatch.setattr(PasswordHash, "verify", count)

    async def main() -> None:
        for _ in range(3):
            assert await users.admit("anna", "x")
            assert not await users.admit("anna", "wrong")
            assert not await users.admit("nobody", "x")
        users.load()
        assert await users.admit("anna", "x")

    asyncio.run(main())
    assert checked.count("x") == 1 + 3 + 1  # an unknown user's is checked like others
    assert checked.count("wrong") == 3


def test_memory_of_right_passwords_is_bounded(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 1)

    async def main() -> None:
        for user, password in (("anna", "x"), ("bob", "y"), ("anna", "x")):
            assert await users.admit(user, password)
            assert len(users._known) == 1

    asyncio.run(main())


def test_too_many_at_once_are_told_to_come_again(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    monkeypatch.setattr(PasswordHash, "verify", lambda *_: go_on.wait(10))

    async def main() -> None:
        waiting = [asyncio.create_task(users.admit("anna", str(i))) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await users.admit("bob", "y")
        assert caught.value.http_status == 503
        assert caught.value.headers == (("Retry-After", "5"),)
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await users.admit("bob", "y")

    asyncio.run(main())


def test_one_client_leaves_room_for_the_passwords_of_others(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(module, "MAX_WAITING_PER_CLIENT", 2)
    monkeypatch.setattr(PasswordHash, "verify", lambda *_: go_on.wait(10))
    auth = Auth([], users)

    def check(number: int, client: str) -> asyncio.Task[None]:
        head = request(basic("anna", str(number)))
        return asyncio.create_task(auth.check(head, "/", client))

    async def main() -> None:
        flood = [check(number, f"2001:db8::{number}") for number in range(3)]
        other = check(3, "2001:db8:0:1::")
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="2 passwords of this address") as caught:
            await flood.pop()
        assert caught.value.http_status == 503
        go_on.set()
        await asyncio.gather(*flood, other)
        assert not users._waiting
        await check(4, "2001:db8::9")

    asyncio.run(main())


def test_user_who_goes_while_his_password_is_checked(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(PasswordHash, "verify", lambda *_: go_on.wait(10))

    async def main() -> None:
        waiting = asyncio.create_task(users.admit("anna", "x"))
        await asyncio.sleep(0)
        Path(users.path).write_text(f"bob:{Y}\n")
        users.load()
        go_on.set()
        assert not await waiting

    asyncio.run(main())


def test_nobody_gets_in_before_the_file_is_read() -> None:
    assert not asyncio.run(Users("/none").admit("anna", "x"))


def test_broken_file_changes_nothing(users: Users) -> None:
    file = Path(users.path)
    for text in ("anna\n", "\xff"):
        file.write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError):
            users.load()
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        users.load()
    assert "anna" in users
    assert asyncio.run(users.admit("anna", "x"))


def test_lines_of_a_users_file() -> None:
    text = f"# comment\r\n\n  anna:{X}  \nbob@site:{Y}"
    assert list(parse_users(text, "f")) == ["anna", "bob@site"]
    assert list(parse_users(f"\ufeffanna:{X}", "f")) == ["anna"]  # as Notepad saves


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no user; write lines USER:HASH"),
        ("# nobody\n", "names no user; write lines USER:HASH"),
        ("anna\n", "line 1: is not USER:HASH"),
        (f"\n:{X}\n", "line 2: is not USER:HASH"),
        (f"a:{X}\na:{Y}\n", "line 2: a user is named twice"),
        (f"a:{X}\nb:private\n", "line 2: no $scrypt$ or $pbkdf2-sha256$ hash; make"),
    ],
)
def test_reject_users(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_users(text, "f")
    assert caught.value.path == "f"
    assert caught.value.reason.startswith(reason)
    assert "private" not in str(caught.value)
