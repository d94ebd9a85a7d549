"""Where a request goes: by route, by token, or to TARGET."""

import os
from pathlib import Path
from typing import Any

import pytest

from fastws.config.schema import WsToTcp
from fastws.exceptions import ConfigError
from fastws.modes.parts import Part
from fastws.modes.targets import NoTarget, Targets
from fastws.net.dial import Dialer
from fastws.upstream.group import Group


def targets(**options: Any) -> Targets:
    spec = WsToTcp(listen="127.0.0.1:0", **options)
    return Targets(spec, lambda target: Dialer(target.address))


def choice(found: Targets, target: str, host: str = "any.example") -> str:
    """The address of the way, or the status of the refusal."""
    try:
        way = found.choose(host, target)
    except NoTarget as error:
        return str(error.status)
    if isinstance(way, Group):
        return "+".join(member.item.name for member in way.balancer.members)
    return way.name


ROUTES = (
    *("/a=a:1", "/a/*=below:1", "/a/b/*=deeper:1", "/a/b/c=exact:1"),
    *("h.example/a=hosted:1", "h.example/*=whole:1", "h.example:81/a=ported:1"),
)


@pytest.mark.parametrize(
    ("target", "host", "where"),
    [
        ("/a", "x", "a:1"),
        ("/a?b=/a/b", "x", "a:1"),
        ("/a/", "x", "below:1"),
        ("/a/x", "x", "below:1"),
        ("/a/b", "x", "below:1"),
        ("/a/b/x", "x", "deeper:1"),
        ("/a/b/c", "x", "exact:1"),
        ("/A", "x", "404"),
        ("/ab", "x", "404"),
        ("/", "x", "404"),
        ("/a", "h.example", "hosted:1"),
        ("/a", "H.Example:80", "hosted:1"),
        ("/a/b/c", "h.example", "whole:1"),
        ("/zzz", "h.example", "whole:1"),
        ("/a", "sub.h.example", "a:1"),
    ],
)
def test_routes(target: str, host: str, where: str) -> None:
    found = targets(route=ROUTES)
    assert choice(found, target, host) == where
    path = target.partition("?")[0]
    assert found.has_path(host, path) is (where != "404")


def test_route_with_a_port_wants_that_port() -> None:
    found = targets(route=("h.example:81/a=ported:1",))
    assert choice(found, "/a", "h.example:81") == "ported:1"
    assert choice(found, "/a", "h.example:82") == "404"


def test_target_takes_what_no_route_does() -> None:
    found = targets(target="t:1", route=("/a=a:1",))
    assert [choice(found, path) for path in ("/a", "/b")] == ["a:1", "t:1"]


def test_path_limits_target_but_not_routes() -> None:
    found = targets(target="t:1", path="/t", route=("/a=a:1",))
    paths = ("/a", "/t", "/b")
    assert [choice(found, path) for path in paths] == ["a:1", "t:1", "404"]
    assert [found.has_path("x", path) for path in paths] == [True, True, False]


def test_several_targets_are_one_group() -> None:
    found = targets(target="a:1", more_targets=("b:2",))
    assert choice(found, "/") == "a:1+b:2"
    assert len(found.dialers) == 2


# Tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("one: h:1\ntwo words: h:2\nü: h:3\n")
    return path


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("/?token=one", "h:1"),
        ("/websockify?x=y&token=one", "h:1"),
        ("/websockify?token=two+words", "h:2"),
        ("/?token=%C3%BC", "h:3"),
        ("/?token=one%0A", "h:1"),
        ("/one", "h:1"),
        ("/one/", "h:1"),
        ("/one/more?x", "h:1"),
        ("/two%20words", "h:2"),
        ("/", "403"),
        ("/?token=", "403"),
        ("/?token=on", "403"),
        ("/?token=onee", "403"),
        ("/One", "403"),
        ("/x/one", "403"),
        ("/one?token=three", "403"),
        ("/?mytoken=one", "403"),
    ],
)
def test_tokens(file: Path, target: str, where: str) -> None:
    assert choice(targets(token_file=str(file)), target) == where


def test_refusal_does_not_repeat_the_token(file: Path) -> None:
    found = targets(token_file=str(file))
    for target in ("/?token=guess", "/guess", "/guess?token=guess"):
        with pytest.raises(NoTarget) as caught:
            found.choose("h", target)
        assert caught.value.reason == "its token is not known (--token-file)"


def test_routes_come_before_tokens(file: Path) -> None:
    found = targets(token_file=str(file), route=("/one=r:9", "/r=r:9"))
    assert choice(found, "/one") == "r:9"
    assert choice(found, "/r?token=one") == "r:9"
    assert choice(found, "/?token=one") == "h:1"


def test_target_takes_what_has_no_token_but_no_wrong_one(file: Path) -> None:
    found = targets(token_file=str(file), target="t:1")
    assert choice(found, "/") == "t:1"
    assert choice(found, "/other") == "t:1"
    assert choice(found, "/one") == "h:1"
    assert choice(found, "/?token=other") == "403"


def test_with_a_path_the_token_is_in_the_query(file: Path) -> None:
    found = targets(token_file=str(file), path="/ws")
    paths = ("/ws?token=one", "/one", "/ws", "/other?token=one")
    assert [choice(found, path) for path in paths] == ["h:1", "404", "403", "404"]


def test_directory_of_token_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one: h:1\n")
    (tmp_path / "b").write_text("two: h:2\none: h:3\n")
    (tmp_path / ".hidden").write_text("three: h:3\n")
    (tmp_path / "dir").mkdir()
    found = targets(token_file=str(tmp_path))
    paths = ("/one", "/two", "/three")
    assert [choice(found, path) for path in paths] == ["h:3", "h:2", "403"]


def test_good_lines_work_beside_broken_ones(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("one: h:1\nsecret\ntwo: h:2\n")
    found = targets(token_file=str(file))
    assert [choice(found, path) for path in ("/one", "/two")] == ["h:1", "h:2"]
    expected = f"--token-file {file}: line 2: write 'token: host:port'"
    assert caplog.messages == [expected]


def test_thousands_of_broken_lines_are_not_all_logged(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("one: h:1\n" + "broken\n" * 5000)
    targets(token_file=str(file))
    assert len(caplog.messages) == 20


def test_new_contents_count_after_load(file: Path) -> None:
    found = targets(token_file=str(file))
    kept = found.choose("h", "/one")
    file.write_text("one: h:1\nnew: h:4\n")
    found.read_tokens()()
    paths = ("/new", "/two%20words")
    assert [choice(found, path) for path in paths] == ["h:4", "403"]
    assert found.choose("h", "/one") is kept


def test_line_that_is_no_text_is_named_and_the_good_ones_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.cfg").write_bytes("ü: h:1\n".encode() + b"\xfc: h:2\ntwo: h:3\n")
    (tmp_path / "b.der").write_bytes(b"\x30\x82\xff\n")
    found = targets(token_file=str(tmp_path))
    paths = ("/%C3%BC", "/%FC", "/two")
    assert [choice(found, path) for path in paths] == ["h:1", "403", "h:3"]
    assert caplog.messages == [
        f"--token-file {tmp_path / 'a.cfg'}: line 2: is not UTF-8",
        f"--token-file {tmp_path / 'b.der'}: line 1: is not UTF-8",
    ]


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (None, "cannot be read: no such file or directory"),
        (b"nonsense\n", "has no usable line"),
        (b"one: \xff\n", "has no usable line"),
    ],
)
def test_bad_file_leaves_what_was_read_before(
    file: Path, contents: bytes | None, reason: str
) -> None:
    found = targets(token_file=str(file))
    file.unlink() if contents is None else file.write_bytes(contents)
    with pytest.raises(ConfigError) as caught:
        found.read_tokens()()
    assert str(caught.value) == f"--token-file {file}: {reason}"
    assert choice(found, "/one") == "h:1"


def test_unreadable_file_at_start() -> None:
    with pytest.raises(ConfigError, match="--token-file /nonexistent: cannot be read"):
        targets(token_file="/nonexistent")


def test_empty_file_has_no_token(file: Path) -> None:
    file.write_text("# nobody yet\n")
    assert choice(targets(token_file=str(file)), "/one") == "403"


# What is read from files


def test_part_changes_with_its_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    part = Part("things", [str(path), None], lambda: None)
    assert not part.has_changed()
    path.write_text("22")
    assert (part.has_changed(), part.has_changed()) == (True, False)
    os.utime(path, (1, 1))
    assert (part.has_changed(), part.has_changed()) == (True, False)
    path.unlink()
    assert (part.has_changed(), part.has_changed()) == (True, False)


def test_part_sees_into_a_directory(tmp_path: Path) -> None:
    part = Part("things", [str(tmp_path)], lambda: None)
    (tmp_path / "f").write_text("1")
    assert (part.has_changed(), part.has_changed()) == (True, False)
    (tmp_path / "f").write_text("22")
    assert (part.has_changed(), part.has_changed()) == (True, False)
