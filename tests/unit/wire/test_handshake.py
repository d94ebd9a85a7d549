"""The opening handshake, RFC 6455 section 4."""

import pytest

from fastws._consts import Side
from fastws.exceptions import InvalidStatus, LocalProtocolError, RemoteProtocolError
from fastws.wire.handshake import (
    accept_key,
    build_accept,
    build_upgrade,
    check_answer,
    check_upgrade,
    choose_subprotocol,
    is_upgrade,
    make_key,
)
from fastws.wire.http1 import Head, HeadReader

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
REQUEST = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
ANSWER = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": ACCEPT,
}


def request(*more: tuple[str, str], **start: str) -> Head:
    """The sample request; a value of ``-`` takes the field of that name away."""
    changed = dict(more)
    fields = [(k, v) for k, v in REQUEST.items() if changed.get(k) != "-"]
    fields += [(k, v) for k, v in more if v != "-"]
    return Head(
        start.get("method", "GET"),
        start.get("target", "/chat?x=1"),
        start.get("version", "1.1"),
        headers=fields,
    )


def answer(*more: tuple[str, str], status: int = 101, version: str = "1.1") -> Head:
    """The sample answer; a value of ``-`` takes the field of that name away."""
    changed = dict(more)
    fields = [(k, v) for k, v in ANSWER.items() if changed.get(k) != "-"]
    fields += [(k, v) for k, v in more if v != "-"]
    return Head(None, "", version, status, "Why", fields)


def refuse(head: Head) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        check_upgrade(head)
    return caught.value


def reject(head: Head, subprotocols: tuple[str, ...] = ()) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        check_answer(head, KEY, subprotocols=subprotocols)
    return caught.value


class TestKeys:
    def test_accept_key_of_section_1_3(self):
        assert accept_key(KEY) == ACCEPT

    def test_make_key_of_section_4_1(self):
        assert make_key(b"the sample nonce") == KEY

    @pytest.mark.parametrize("size", [0, 15, 17])
    def test_reject_random_bytes(self, size):
        with pytest.raises(LocalProtocolError):
            make_key(b"x" * size)


class TestBuildUpgrade:
    def test_bytes(self):
        assert build_upgrade("/t?a", "h:1", KEY) == (
            b"GET /t?a HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )

    def test_options_come_last(self):
        data = build_upgrade(
            "/",
            "h",
            KEY,
            origin="https://a.example",
            subprotocols=["binary", "v1.x"],
            headers=[("Authorization", "Bearer z")],
        )
        assert data.endswith(
            b"Sec-WebSocket-Version: 13\r\nOrigin: https://a.example\r\n"
            b"Sec-WebSocket-Protocol: binary, v1.x\r\nAuthorization: Bearer z\r\n\r\n"
        )

    @pytest.mark.parametrize("names", [["a b"], ["a,b"], [""], ["a", "a"], ["a\r\n"]])
    def test_reject_subprotocols(self, names):
        with pytest.raises(LocalProtocolError, match="distinct tokens"):
            build_upgrade("/", "h", KEY, subprotocols=names)

    @pytest.mark.parametrize(
        "name",
        [
            "host",
            "Upgrade",
            "Connection",
            "Sec-WebSocket-Key",
            "sec-websocket-version",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
            "Content-Length",
            "Transfer-Encoding",
        ],
    )
    def test_reject_fields_of_the_handshake(self, name):
        with pytest.raises(LocalProtocolError, match="belongs to the WebSocket"):
            build_upgrade("/", "h", KEY, headers=[(name, "x")])

    @pytest.mark.parametrize("target", ["", "t", "http://h/", "/ ", "/\r\n"])
    def test_reject_target(self, target):
        with pytest.raises(LocalProtocolError):
            build_upgrade(target, "h", KEY)

    def test_reject_header_injection(self):
        with pytest.raises(LocalProtocolError):
            build_upgrade("/", "h\r\nA: b", KEY)
        with pytest.raises(LocalProtocolError):
            build_upgrade("/", "h", KEY, origin="x\n")

    def test_server_reads_it(self):
        data = build_upgrade("/t", "h", KEY, origin="http://o", subprotocols=["a", "b"])
        head = HeadReader(Side.SERVER).receive_data(data)
        assert head is not None
        upgrade = check_upgrade(head)
        assert (upgrade.key, upgrade.target, upgrade.host) == (KEY, "/t", "h")
        assert (upgrade.origin, upgrade.subprotocols) == ("http://o", ["a", "b"])
        assert upgrade.head is head


class TestCheckAnswer:
    """RFC 6455 section 4.1, what a client must verify."""

    def test_accept(self):
        assert check_answer(answer(), KEY) is None

    def test_accept_our_own(self):
        data = build_accept(KEY, subprotocol="v1", headers=[("A", "b")])
        head = HeadReader(Side.CLIENT).receive_data(data)
        assert head is not None
        assert check_answer(head, KEY, subprotocols=["v0", "v1"]) == "v1"

    def test_accept_any_case_and_other_connection_options(self):
        head = answer(
            ("Upgrade", "-"),
            ("upgrade", "WebSocket"),
            ("Connection", "-"),
            ("connection", "keep-alive, UPGRADE"),
        )
        assert check_answer(head, KEY) is None

    def test_accept_connection_in_two_fields(self):
        assert check_answer(answer(("Connection", "keep-alive")), KEY) is None

    @pytest.mark.parametrize("status", [100, 200, 204, 301, 400, 403, 426, 503])
    def test_reject_status(self, status):
        with pytest.raises(InvalidStatus) as caught:
            check_answer(answer(("Server", "x"), status=status), KEY, body=b"no")
        assert caught.value.status == status
        assert ("Server", "x") in caught.value.fields
        assert caught.value.body == b"no"
        assert str(caught.value) == f"HTTP {status} Why"

    def test_reject_request_as_answer(self):
        with pytest.raises(InvalidStatus):
            check_answer(request(), KEY)

    def test_reject_http_1_0(self):
        assert str(reject(answer(version="1.0"))) == "101 in HTTP/1.0"

    @pytest.mark.parametrize("name", ["Upgrade", "Sec-WebSocket-Accept"])
    def test_reject_missing(self, name):
        assert str(reject(answer((name, "-")))) == f"no {name} in the answer"

    @pytest.mark.parametrize("name", ["Upgrade", "Sec-WebSocket-Accept"])
    def test_reject_duplicate(self, name):
        error = reject(answer((name.lower(), ANSWER[name])))
        assert str(error) == f"more than one {name} in the answer"

    def test_reject_missing_connection(self):
        assert "without Upgrade" in str(reject(answer(("Connection", "-"))))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("Upgrade", "h2c"),
            ("Upgrade", "websocket, websocket"),
            ("Upgrade", ""),
            ("Connection", "close"),
            ("Connection", "upgraded"),
            ("Sec-WebSocket-Accept", "x"),
            ("Sec-WebSocket-Accept", ACCEPT.lower()),
            ("Sec-WebSocket-Accept", KEY),
        ],
    )
    def test_reject_wrong(self, name, value):
        reject(answer((name, "-"), (name.lower(), value)))

    @pytest.mark.parametrize("value", ["permessage-deflate", "x; y=1"])
    def test_reject_extension(self, value):
        error = reject(answer(("Sec-WebSocket-Extensions", value)))
        assert str(error) == f"extension was not offered: {value}"

    def test_accept_empty_extensions(self):
        assert check_answer(answer(("Sec-WebSocket-Extensions", "")), KEY) is None

    def test_accept_no_subprotocol_though_offered(self):
        assert check_answer(answer(), KEY, subprotocols=["a"]) is None

    @pytest.mark.parametrize("value", ["b", "A", "", "a, b"])
    def test_reject_subprotocol_not_offered(self, value):
        error = reject(answer(("Sec-WebSocket-Protocol", value)), ("a",))
        assert str(error) == f"subprotocol was not offered: {value!r}"

    def test_reject_subprotocol_twice(self):
        head = answer(("Sec-WebSocket-Protocol", "a"), ("sec-websocket-protocol", "a"))
        assert str(reject(head, ("a",))) == "more than one Sec-WebSocket-Protocol"


class TestCheckUpgrade:
    """RFC 6455 section 4.2.1, what a server must verify."""

    def test_accept(self):
        upgrade = check_upgrade(request())
        assert (upgrade.key, upgrade.host) == (KEY, "server.example.com")
        assert upgrade.target == "/chat?x=1"
        assert (upgrade.origin, upgrade.subprotocols) == (None, [])

    def test_accept_lists_and_case(self):
        head = request(
            ("Upgrade", "-"),
            ("upgrade", "h2c, WebSocket"),
            ("Connection", "-"),
            ("connection", "Keep-Alive"),
            ("connection", "upgrade"),
        )
        assert is_upgrade(head)
        check_upgrade(head)

    def test_subprotocols_of_several_fields_keep_order(self):
        head = request(
            ("Sec-WebSocket-Protocol", "b,a"), ("sec-websocket-protocol", "c")
        )
        assert check_upgrade(head).subprotocols == ["b", "a", "c"]

    @pytest.mark.parametrize("method", ["POST", "HEAD", "CONNECT"])
    def test_reject_method(self, method):
        error = refuse(request(method=method))
        assert error.http_status == 405
        assert error.headers == (("Allow", "GET"),)
        assert str(error) == f"a WebSocket upgrade, by {method}"
        error = refuse(request(("Upgrade", "-"), method=method))
        assert str(error) == f"no WebSocket upgrade, by {method}"

    @pytest.mark.parametrize("name", ["Upgrade", "Connection"])
    def test_reject_plain_request(self, name):
        head = request((name, "-"))
        assert not is_upgrade(head)
        error = refuse(head)
        assert error.http_status == 426
        assert error.headers == (
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        )

    @pytest.mark.parametrize("version", ["8", "14", "013", "", "-"])
    def test_reject_version(self, version):
        error = refuse(
            request(("Sec-WebSocket-Version", "-"), ("sec-websocket-version", version))
        )
        assert error.http_status == 426
        assert ("Sec-WebSocket-Version", "13") in error.headers
        sent = "missing" if version == "-" else version
        assert str(error) == f"Sec-WebSocket-Version is {sent}, not 13"

    def test_reject_version_twice(self):
        assert refuse(request(("sec-websocket-version", "13"))).http_status == 400

    def test_reject_http_1_0(self):
        error = refuse(request(version="1.0"))
        assert error.http_status == 400
        assert str(error) == "WebSocket upgrade in HTTP/1.0"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZXM=",
            "dGhlIHNhbXBsZSBub25!ZQ==",
            "dGhl IHNhbXBsZSBub25jZQ==",
            "_GhlIHNhbXBsZSBub25jZQ==",
        ],
    )
    def test_reject_key(self, key):
        error = refuse(request(("Sec-WebSocket-Key", "-"), ("sec-websocket-key", key)))
        assert error.http_status == 400
        assert str(error) == "Sec-WebSocket-Key is not base64 of 16 bytes"

    def test_reject_key_count(self):
        error = refuse(request(("sec-websocket-key", KEY)))
        assert error.http_status == 400
        assert str(error) == "2 Sec-WebSocket-Key fields, not 1"
        error = refuse(request(("Sec-WebSocket-Key", "-")))
        assert error.http_status == 400
        assert str(error) == "0 Sec-WebSocket-Key fields, not 1"

    def test_reject_origin_twice(self):
        error = refuse(request(("Origin", "http://a"), ("origin", "http://b")))
        assert error.http_status == 400

    @pytest.mark.parametrize("value", ["a b", "a, b/c", '"a"', "a=b"])
    def test_reject_subprotocol(self, value):
        error = refuse(request(("Sec-WebSocket-Protocol", value)))
        assert error.http_status == 400

    def test_reject_no_host(self):
        assert refuse(request(("Host", "-"))).http_status == 400

    @pytest.mark.parametrize(
        ("target", "path", "host"),
        [
            ("http://h.example:81/a/b?c", "/a/b?c", "h.example:81"),
            ("WS://h", "/", "h"),
            ("https://h?q", "/?q", "h"),
            ("/http://h/", "/http://h/", "server.example.com"),
        ],
    )
    def test_accept_target(self, target, path, host):
        upgrade = check_upgrade(request(target=target))
        assert (upgrade.target, upgrade.host) == (path, host)

    @pytest.mark.parametrize(
        "target", ["*", "h:1", "ftp://h/", "http:///a", "http://u@h/", "/a#b", "http:/"]
    )
    def test_reject_target(self, target):
        assert refuse(request(target=target)).http_status == 400


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        ([], [], None),
        (["base64"], [], None),
        (["base64", "binary"], [], "binary"),
        (["chat", "binary"], [], "binary"),
        (["chat", "talk"], [], "chat"),
        (["base64", "chat"], [], "chat"),
        (["a", "b"], ["b", "a"], "a"),
        (["a", "b"], ["b"], "b"),
        (["binary"], ["b"], None),
        (["base64"], ["base64"], None),
        ([], ["b"], None),
    ],
)
def test_choose_subprotocol(offered, wanted, chosen):
    assert choose_subprotocol(offered, wanted) == chosen


class TestBuildAccept:
    def test_bytes(self):
        assert build_accept(KEY) == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def test_options_come_last(self):
        data = build_accept(KEY, subprotocol="binary", headers=[("X", "\xe9")])
        assert data.endswith(
            b"xOo=\r\nSec-WebSocket-Protocol: binary\r\nX: \xe9\r\n\r\n"
        )

    @pytest.mark.parametrize("name", ["", "a b", "a\r\n"])
    def test_reject_subprotocol(self, name):
        with pytest.raises(LocalProtocolError):
            build_accept(KEY, subprotocol=name)

    @pytest.mark.parametrize(
        ("name", "value"), [("Connection", "close"), ("A", "b\r\nC: d"), ("A\n", "b")]
    )
    def test_reject_header(self, name, value):
        with pytest.raises(LocalProtocolError):
            build_accept(KEY, headers=[(name, value)])
