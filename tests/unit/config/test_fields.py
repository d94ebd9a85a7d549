"""Texts that end up in an HTTP head."""

import pytest

from fastws.config.fields import (
    Secret,
    check_header,
    header_owner,
    is_sensitive,
    parse_header,
    parse_host,
    parse_origin,
    parse_path,
    parse_server_name,
    parse_subprotocol,
)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("A: b", "A", "b"),
        ("A:b", "A", "b"),
        ("A:", "A", ""),
        ("A:  b: c \t", "A", "b: c"),
        ("X-1_2.3~: u", "X-1_2.3~", "u"),
    ],
)
def test_accept_header(text: str, name: str, value: str) -> None:
    assert parse_header(text) == (name, value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("foo", "no colon; write 'Name: value'"),
        (": b", "not a header name"),
        ("A B: c", "not a header name"),
        ("Ä: c", "not a header name"),
        ("A: b\r\nC: d", "one line of printable ASCII"),
        ("A: b\0", "one line of printable ASCII"),
        ("A: ü", "one line of printable ASCII"),
    ],
)
def test_reject_header(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_header(text)


def test_rejected_header_does_not_show_its_value() -> None:
    for text in ("Authorization Bearer hunter2", "Authorization: hunter2\n"):
        with pytest.raises(ValueError, match=r"header|value") as caught:
            parse_header(text)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "X-Api-Key",
        "CF-Access-Token",
        "CF-Access-Client-Secret",
        "X-Auth",
    ],
)
def test_credential_is_masked_in_repr_only(name: str) -> None:
    header = check_header(name, "hunter2")
    assert "hunter2" not in repr(header)
    assert header[1] == "hunter2"
    assert f"{header[0]}: {header[1]}" == f"{name}: hunter2"
    assert header[1].encode() == b"hunter2"


def test_other_header_is_shown() -> None:
    assert not is_sensitive("Accept-Language")
    assert repr(check_header("Accept-Language", "de")) == "('Accept-Language', 'de')"
    assert repr(Secret("x")) == "'MASKED'"


@pytest.mark.parametrize("name", ["Host", "origin"])
def test_request_field_with_an_option_of_its_own(name: str) -> None:
    reason = header_owner(name, request=True)
    assert reason == f"use --{name.lower()} for {name}"
    assert header_owner(name, request=False) is None


@pytest.mark.parametrize("request_side", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "UPGRADE",
        "Content-Length",
        "Transfer-Encoding",
        "X-Fastws",
        "Sec-WebSocket-Key",
        "sec-websocket-accept",
        "Sec-WebSocket-Extensions",
    ],
)
def test_field_of_the_upgrade_itself(name: str, request_side: bool) -> None:
    reason = header_owner(name, request=request_side)
    assert reason == f"{name} belongs to the upgrade itself and cannot be set"


def test_subprotocol_field_names_the_option() -> None:
    reason = header_owner("Sec-WebSocket-Protocol", request=True)
    assert reason == "use --subprotocol for Sec-WebSocket-Protocol"


@pytest.mark.parametrize("text", ["/", "/ssh", "/a%20b", "/a/b;c=d"])
def test_accept_path(text: str) -> None:
    assert parse_path(text) == text


@pytest.mark.parametrize("text", ["", "ssh", "/a?b", "/a#b", "/a b", "/é", "/a\n"])
def test_reject_path(text: str) -> None:
    with pytest.raises(ValueError, match="write /name without a query"):
        parse_path(text)


@pytest.mark.parametrize("text", ["/*", "/ssh/*"])
def test_reject_path_that_looks_like_a_prefix(text: str) -> None:
    with pytest.raises(ValueError, match="this one alone; only --route takes"):
        parse_path(text)


@pytest.mark.parametrize("text", ["a", "a.example:80", "[::1]", "[::1]:80", "10.0.0.1"])
def test_accept_host(text: str) -> None:
    assert parse_host(text) == text


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a:b", "http://a", "u@a", "a\r\n"])
def test_reject_host(text: str) -> None:
    with pytest.raises(ValueError, match="write NAME or NAME:PORT"):
        parse_host(text)


@pytest.mark.parametrize(
    "text", ["https://a.example", "http://[::1]:80", "null", "chrome-extension://abc"]
)
def test_accept_origin(text: str) -> None:
    assert parse_origin(text) == text


@pytest.mark.parametrize("text", ["", "*", "a.example", "https://", "https://a/", "a:"])
def test_reject_origin(text: str) -> None:
    with pytest.raises(ValueError, match="write https://NAME or null"):
        parse_origin(text)


@pytest.mark.parametrize("text", ["a.example", "localhost"])
def test_accept_server_name(text: str) -> None:
    assert parse_server_name(text) == text


@pytest.mark.parametrize("text", ["", "10.0.0.1", "::1", "[::1]", "a:443", "a b"])
def test_reject_server_name(text: str) -> None:
    with pytest.raises(ValueError, match="write a DNS name"):
        parse_server_name(text)


def test_subprotocol_is_a_token() -> None:
    assert parse_subprotocol("binary") == "binary"
    for text in ("", "a,b", "a b", "a/b", "ü"):
        with pytest.raises(ValueError, match="write one name and repeat the option"):
            parse_subprotocol(text)
