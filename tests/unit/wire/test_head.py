"""One head as data: look-ups by field, and requests built: RFC 9110, RFC 9112."""

import pytest

from fastws._consts import Side
from fastws.exceptions import LocalProtocolError
from fastws.wire.head import Head, build_request
from fastws.wire.http1 import HeadReader


class TestFields:
    HEAD = Head(
        "GET", "/", headers=[("A", "1"), ("b", "x, Y ,z"), ("a", "2"), ("B", "w")]
    )

    def test_get_joins_repeated_fields(self):
        assert self.HEAD.get("A") == "1, 2"
        assert Head(headers=[("A", "1")]).get("a") == "1"

    def test_get_absent(self):
        assert self.HEAD.get("c") is None
        assert self.HEAD.get_all("c") == []
        assert not self.HEAD.has_token("c", "x")

    def test_get_all_keeps_order(self):
        assert self.HEAD.get_all("a") == ["1", "2"]

    def test_get_tokens_drops_empty_elements(self):
        head = Head(headers=[("P", "a, ,b"), ("p", ""), ("p", "\tc")])
        assert head.get_tokens("P") == ["a", "b", "c"]

    @pytest.mark.parametrize("token", ["x", "y", "Z", "w"])
    def test_has_token_in_any_case(self, token):
        assert self.HEAD.has_token("B", token)

    @pytest.mark.parametrize("token", ["v", "x,", ""])
    def test_has_token_absent(self, token):
        assert not self.HEAD.has_token("B", token)

    def test_default_head_is_an_empty_request(self):
        assert Head().headers == []
        assert Head().version == "1.1"


class TestBuildRequest:
    def test_bytes(self):
        assert build_request("GET", "/a?b", [("Host", "h"), ("X", "\xe9\t")]) == (
            b"GET /a?b HTTP/1.1\r\nHost: h\r\nX: \xe9\t\r\n\r\n"
        )

    @pytest.mark.parametrize("method", ["", "G T", "GET\r\n"])
    def test_reject_method(self, method):
        with pytest.raises(LocalProtocolError):
            build_request(method, "/", [])

    @pytest.mark.parametrize("target", ["", "/ ", "/\r\n", "/\0", "/\xe9", "/\x7f"])
    def test_reject_target(self, target):
        with pytest.raises(LocalProtocolError):
            build_request("GET", target, [])

    def test_round_trip(self):
        sent = [("Host", "h"), ("A", "1"), ("a", "2")]
        reader = HeadReader(Side.SERVER)
        head = reader.receive_data(build_request("DELETE", "/x", sent))
        assert head is not None
        assert (head.method, head.target, head.headers) == ("DELETE", "/x", sent)
