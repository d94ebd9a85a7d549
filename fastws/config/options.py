"""One table of options: the command line, the variables and the reference read it.

What a mode's option is called and its default stand in :mod:`fastws.config.schema`,
which modes have it in :mod:`fastws.config.modes`; how it is written and explained
stands here. Pure.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from fastws.config import fields as f
from fastws.config import trust
from fastws.config.endpoint import ConnectTo
from fastws.config.forward import Forward, parse_protocols, parse_user
from fastws.config.kinds import (
    FILE,
    FLAG,
    HOST,
    NAME,
    ORIGIN,
    PSEUDONYM,
    SIZE,
    TIME,
    Kind,
    choice,
    parse_count,
)
from fastws.config.modes import MODES, PROCESS, WITHOUT, defaults
from fastws.config.pairs import Pair
from fastws.config.pool_rows import POOL_ROWS
from fastws.config.proxy import ProxyUrl
from fastws.config.routes import Route
from fastws.config.rules import Rule
from fastws.config.run_rows import RUN, RUN_ROWS
from fastws.config.via import parse_via


class Option(msgspec.Struct, frozen=True):
    """One option, in every place where it appears.

    Attributes:
        flag: ``--name``; the variable's name follows from it.
        kind: how its value is written.
        group: heading in help texts, or one per mode.
        help: one sentence without a full stop, or one per mode.
        field: attribute it fills; empty where it follows from ``flag``.
        short: one-letter form.
        many: may be repeated; a variable holds one value per line.
        negates: the flag turns its field off.
        secret: the value can also come from the file named by ``…_FILE``.
        off: 0 switches it off, and the help says so.
        default: where no schema has the field.
    """

    flag: str
    kind: Kind
    group: str | Mapping[str, str]
    help: str | Mapping[str, str]
    field: str = ""
    short: str = ""
    many: bool = False
    negates: bool = False
    secret: bool = False
    off: bool = False
    default: Any = None

    @property
    def attribute(self) -> str:
        """Name of the schema's attribute."""
        return self.field or self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """Name of the environment variable: ``FASTWS_PING``."""
        return "FASTWS_" + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def is_single(self) -> bool:
        """Whether it takes one value, so that of several one would count."""
        return self.kind is not FLAG and not self.many

    def file_variable(self, mode: str) -> str:
        """Variable that names a file with the value; empty where there is none.

        One that is already another option's is left to that: in stw
        ``FASTWS_HEADER_FILE`` is ``--header-file``, read at each connection.
        """
        if not self.secret:
            return ""
        name = self.variable + "_FILE"
        taken = any(option.variable == name for option in options_of(mode))
        return "" if taken else name

    def group_in(self, mode: str) -> str:
        """The heading in the help of ``mode``."""
        return self.group if isinstance(self.group, str) else self.group[mode]

    def help_in(self, mode: str) -> str:
        """The sentence in the help of ``mode``."""
        return self.help if isinstance(self.help, str) else self.help[mode]

    def default_in(self, mode: str) -> Any:
        """The value without the option."""
        return defaults(MODES[mode]).get(self.attribute, self.default)

    def default_text(self, mode: str) -> str:
        """That value as written, or empty where absence is the default."""
        value = self.default_in(mode)
        if self.kind is FLAG or self.many or value is None:
            return ""
        return "off" if self.off and not value else self.kind.show(value)


_HTTP = "Handshake"
_TLS = {
    "stw": "TLS (wss:// only)",
    "wts": "TLS to TARGET (tls:// only)",
    "proxy": "TLS to the server of a wss:// --via",
}
_TLS_IN = {
    "stw": "TLS (wss:// only)",
    "wts": "TLS on LISTEN",
    "proxy": "TLS on LISTEN",
    "proxy-server": "TLS on LISTEN",
}
_ROUTES = "Several targets"
_OUT = "Way out"
_IN = "Who comes in"
_WHERE = "Where to"
_TIMES = "Keep-alive and time-outs"
_LIMITS = "Limits"

OPTIONS: Sequence[Option] = (
    Option(
        "--route",
        Kind("[HOST]/PATH=TARGET", Route.parse),
        _ROUTES,
        "requests that go elsewhere, /PATH/* for all below; repeatable",
        many=True,
    ),
    Option(
        "--token-file",
        FILE,
        _ROUTES,
        "'token: host:port' lines; the token is ?token= or the path's first element",
    ),
    Option("--path", Kind("PATH", f.parse_path), _HTTP, "upgrade this path only"),
    Option("--host", HOST, _HTTP, "Host to send instead of the URL's"),
    Option("--allow-host", HOST, _HTTP, "admit only this Host; repeatable", many=True),
    Option(
        "--header",
        Kind("'NAME: VALUE'", f.parse_header),
        _HTTP,
        {
            "stw": "field to add to the request; repeatable",
            "wts": "field to add to the 101 answer; repeatable",
        },
        field="headers",
        short="-H",
        many=True,
        secret=True,
    ),
    Option(
        "--subprotocol",
        Kind("NAME", f.parse_subprotocol),
        _HTTP,
        {
            "stw": "subprotocol to offer; repeatable, best first",
            "wts": "subprotocol to admit; repeatable, otherwise binary or the first",
        },
        many=True,
    ),
    Option("--origin", ORIGIN, _HTTP, "Origin to send"),
    Option(
        "--allow-origin",
        ORIGIN,
        _HTTP,
        "web page origin to admit besides this host's own; repeatable",
        many=True,
    ),
    Option(
        "--connect-to",
        Kind("HOST:PORT", ConnectTo.parse),
        _HTTP,
        "dial this instead of the URL's address; Host and SNI stay",
    ),
    Option(
        "--header-file",
        FILE,
        _HTTP,
        "more such fields, one a line, read again for each connection",
    ),
    Option(
        "--bearer",
        Kind("TOKEN", f.parse_bearer),
        _HTTP,
        "send Authorization: Bearer TOKEN",
        secret=True,
    ),
    Option(
        "--basic",
        Kind("USER:PASSWORD", f.parse_basic),
        _HTTP,
        "send Authorization: Basic with these",
        secret=True,
    ),
    Option(
        "--no-fastws",
        FLAG,
        _HTTP,
        "do not announce fastws to the peer",
        field="fastws",
        negates=True,
    ),
    Option(
        "--cert",
        FILE,
        _TLS_IN,
        {
            "stw": "client certificate (PEM), its key may stand in it",
            "wts": "certificate chain (PEM), its key may stand in it",
            "proxy": "certificate chain (PEM) to speak TLS with clients",
            "proxy-server": "certificate chain (PEM), its key may stand in it",
        },
    ),
    Option("--key", FILE, _TLS_IN, "key of that certificate (PEM)"),
    Option(
        "--client-ca", FILE, _TLS_IN, "demand client certificates of these authorities"
    ),
    Option("--plain-too", FLAG, _TLS_IN, "serve clients without TLS on that port, too"),
    Option("--ca", FILE, _TLS, "authorities to trust (PEM) instead of the system's"),
    Option("--sni", NAME, _TLS, "server name to send and to verify"),
    Option("--insecure", FLAG, _TLS, "do not verify the server's certificate"),
    Option("--target-cert", FILE, _TLS, "client certificate (PEM) for the target"),
    Option("--target-key", FILE, _TLS, "key of that certificate (PEM)"),
    Option(
        "--proxy",
        Kind("URL", ProxyUrl.parse),
        _OUT,
        "http://, https://, socks5:// or socks5h://[USER:PASSWORD@]HOST:PORT;"
        " none: not even that of HTTPS_PROXY or HTTP_PROXY",
        secret=True,
    ),
    Option(
        "--via",
        Kind("URL", parse_via),
        _OUT,
        "ws:// or wss:// of a fastws proxy-server or rust-proxy that connects, or"
        " another proxy: http://, https://, socks5:// or socks5h://",
        secret=True,
    ),
    Option(
        "--proxy-ca",
        FILE,
        _OUT,
        "authorities (PEM) of an https:// proxy instead of the system's",
    ),
    Option(
        "--retry",
        Kind("COUNT", parse_count),
        _OUT,
        "attempts for one client, within --connect-timeout",
    ),
    *(Option(**row) for row in POOL_ROWS),
    Option("--via-name", PSEUDONYM, _OUT, "name for Via fields of HTTP; ends loops"),
    Option("--source", Kind("ADDRESS", f.parse_source), _OUT, "connect from this"),
    Option(
        "--bind-device",
        Kind("NAME", f.parse_device),
        _OUT,
        "connect through this network interface (Linux)",
    ),
    Option(
        "--auth-token",
        Kind("TOKEN", f.parse_bearer),
        _IN,
        {
            "wts": "Authorization: Bearer TOKEN or ?access_token=TOKEN lets in;"
            " repeatable",
            "proxy-server": "Authorization: Bearer TOKEN, ?access_token=TOKEN, or as"
            " rust-proxy Authorization: TOKEN lets in; repeatable",
        },
        many=True,
        secret=True,
    ),
    Option(
        "--auth-basic",
        FILE,
        _IN,
        "its users get in by password; lines USER:HASH, see fastws hash-password",
    ),
    Option(
        "--user",
        Kind("NAME:PASSWORD", parse_user),
        _IN,
        "lets in by password, HTTP and SOCKS5; repeatable",
        many=True,
        secret=True,
    ),
    Option("--users", FILE, _IN, "the same; lines NAME:HASH, see fastws hash-password"),
    Option(
        "--no-auth",
        FLAG,
        _IN,
        {
            "proxy": "let everybody in, although others than this machine can connect",
            "proxy-server": "let everybody in who reaches it",
        },
    ),
    Option(
        "--auth-attempts",
        Kind("COUNT", parse_count, str),
        _IN,
        "wrong guesses of one address in a minute, then 429; 0 for any number",
        off=True,
    ),
    Option(
        "--protocols",
        Kind("NAMES", parse_protocols, ",".join),
        _IN,
        "what is spoken, of http, https (CONNECT) and socks5",
    ),
    Option(
        "--allow",
        Kind("RULE", Rule.parse),
        _WHERE,
        "with this only such destinations: *.example.com, 10.0.0.0/8, private, *,"
        " each with :PORT or :FIRST-LAST; repeatable",
        many=True,
    ),
    Option(
        "--deny",
        Kind("RULE", Rule.parse),
        _WHERE,
        "refuse such destinations, whatever --allow says; repeatable",
        many=True,
    ),
    Option(
        "--forward",
        Kind("LISTEN=HOST:PORT", Forward.parse),
        _WHERE,
        "one more port, which leads there; LISTEN may then be left out; repeatable",
        many=True,
    ),
    Option(
        "--trust",
        Kind("CIDR", trust.parse_network),
        _IN,
        "front ends to believe about client addresses, or unix; repeatable",
        many=True,
    ),
    Option(
        "--client-ip-header",
        Kind("NAME", trust.parse_field_name),
        _IN,
        "believe this field, not X-Forwarded-For, Forwarded, CF-Connecting-IP",
    ),
    Option(
        "--proxy-protocol",
        choice("off|accept|require", "off", "accept", "require"),
        _IN,
        "take a PROXY v1 or v2 header from --trust, or if not given this machine",
    ),
    Option(
        "--send-proxy-protocol",
        choice("v1|v2", "v1", "v2"),
        _IN,
        "begin connections to TARGET with a PROXY header",
    ),
    Option(
        "--web",
        Kind("DIR"),
        _IN,
        "serve the files of this directory to plain requests",
    ),
    Option("--ping", TIME, _TIMES, "time between pings, 0 for none", off=True),
    Option(
        "--ping-deadline", TIME, _TIMES, "silence after a ping until the peer is dead"
    ),
    Option("--connect-timeout", TIME, _TIMES, "to resolve and connect, in all"),
    Option("--handshake-timeout", TIME, _TIMES, "for TLS and HTTP handshakes, in all"),
    Option(
        "--idle-timeout",
        TIME,
        _TIMES,
        "end connections without payload, 0 for never",
        off=True,
    ),
    Option(
        "--max-connection-age",
        TIME,
        _TIMES,
        "end older connections once they are quiet, 0 for never",
        off=True,
    ),
    Option(
        "--pool-idle",
        TIME,
        _TIMES,
        "close WebSockets that carry no stream for so long, 0 for never",
        off=True,
    ),
    Option("--udp-idle", TIME, _TIMES, "end UDP flows without a datagram"),
    Option(
        "--half-close-timeout",
        TIME,
        _TIMES,
        "reset half-closed connections without a byte",
    ),
    Option(
        "--linger", TIME, _TIMES, "silence a peer may keep while an end is completed"
    ),
    Option(
        "--on-eof",
        choice("hold|close", "hold", "close"),
        _TIMES,
        "after a TCP end, hold the Close for a late answer",
    ),
    Option(
        "--tcp-user-timeout",
        TIME,
        _TIMES,
        "TCP_USER_TIMEOUT of all connections, 0 for the system's",
        off=True,
    ),
    Option(
        "--max-connections",
        Kind("COUNT", parse_count),
        _LIMITS,
        "at once; default 8192 or 1/4 of the descriptor limit",
    ),
    Option(
        "--max-per-ip",
        Kind("COUNT", parse_count, str),
        _LIMITS,
        "connections of one client address at once, 0 for any number",
        off=True,
    ),
    Option(
        "--max-data",
        SIZE,
        _LIMITS,
        "payload of one packet to rust-proxy programs, which take 2KiB, to 64KiB",
    ),
    Option("--max-message", SIZE, _LIMITS, "outgoing frame with header, 1KiB to 16MiB"),
    Option(
        "--also",
        Kind("LISTEN=...", Pair.parse),
        RUN,
        {
            "stw": "one more pair in this process, LISTEN=URL; repeatable",
            "wts": "one more pair in this process, LISTEN=TARGET; repeatable",
        },
        many=True,
    ),
    Option(
        "--workers",
        Kind("COUNT", parse_count),
        RUN,
        "processes that share the work; limits are divided by it",
        default=1,
    ),
    Option(
        "--oneshot",
        FLAG,
        RUN,
        "serve one connection, then exit: 0 if it ended in order, else 1",
    ),
    Option(
        "--text",
        FLAG,
        RUN,
        "with -: a line is a text message, a message is a line",
    ),
    *(Option(**row) for row in RUN_ROWS),
)
"""Every option, in the order of help texts and reference."""


@cache
def options_of(mode: str) -> tuple[Option, ...]:
    """The options of one command, in the order of :data:`OPTIONS`."""
    known = (defaults(MODES[mode]).keys() | PROCESS) - WITHOUT[mode]
    return tuple(option for option in OPTIONS if option.attribute in known)
