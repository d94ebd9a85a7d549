"""The import arrow: who may import whom, read from the sources.

A file imports only from layers below its own and, inside its own package, from
files that stand before it in ``LAYERS``. A new file has to be placed there.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fastws"

# From the bottom up. Layers of one row do not import each other. In a layer, the
# files in the order in which they may import each other (a later one imports
# earlier ones).
LAYERS: list[dict[str, list[str]]] = [
    {"": ["exceptions", "typing", "_consts", "_address", "_version"]},
    {
        "_speedups": [
            "_speedups",
            "_buffer_py",
            "_framing_py",
            "_speedups_py",
            "_scratch_py",
            "_packets_py",
            "_copyloop_py",
            "_messages_py",
            "_unpack_py",
        ]
    },
    {"_backend": ["_backend"]},
    {
        "wire": [
            "machine",
            "frames",
            "head",
            "http1",
            "body",
            "handshake",
            "deflate",
            "websocket",
            "socks5",
            "clienthello",
            "proxy_protocol",
            "announce",
            "sniff",
            "forwarded",
            "mux",
            "centre",
            "wsp",
            "pool",
            "pool_track",
            "__init__",
        ],
        "config": [
            "units",
            "endpoint",
            "fields",
            "trust",
            "proxy",
            "routes",
            "rules",
            "checks",
            "schema",
            "via",
            "forward",
            "proxy_server",
            "modes",
            "kinds",
            "pairs",
            "pool_rows",
            "run_rows",
            "options",
            "secret_file",
            "load",
            "__init__",
        ],
    },
    {
        "net": [
            "backoff",
            "serving",
            "sockopt",
            "stream",
            "memory",
            "tls",
            "resolve",
            "access",
            "bind",
            "sweep",
            "deadlines",
            "dial",
            "inbox",
            "proxy",
            "prelude",
            "listen",
            "handoff",
            "descriptors",
            "stdio",
            "ends",
            "keepalive",
            "websocket",
            "pool_parts",
            "pool_end",
            "upgrade",
            "messages",
            "arrived",
            "copy",
            "detour",
            "replay",
            "pool_udp",
            "pooled",
            "pool_watch",
            "ageing",
            "mux",
            "bind_udp",
            "udp",
            "udp_listen",
            "__init__",
        ]
    },
    {"upstream": ["health", "balance", "group", "waiting", "pool", "edge", "__init__"]},
    {
        "http": [
            "answers",
            "rewrite",
            "channel",
            "server",
            "client",
            "exchange",
            "router",
            "password",
            "limit",
            "auth",
            "static",
            "accesslog",
            "__init__",
        ]
    },
    {
        "proxy": [
            "outgoing",
            "users",
            "visit",
            "target",
            "http",
            "connect",
            "udp",
            "served_udp",
            "direct",
            "pooled",
            "socks",
            "serve",
            "__init__",
        ]
    },
    {
        "ws": [
            "failures",
            "limits",
            "memory",
            "flag",
            "protocol",
            "handler",
            "open",
            "opening",
            "server",
            "heads",
            "fragments",
            "facts",
            "connection",
            "broadcast",
            "redirect",
            "connect",
            "serve",
            "basic_auth",
            "pipe",
            "transport",
            "stream",
            "open_stream",
            "serve_streams",
            "join",
            "forward",
            "__init__",
        ],
        "modes": [
            "parts",
            "runner",
            "targets",
            "header_file",
            "way_out",
            "pooled_way",
            "udp",
            "text",
            "gate",
            "upgrades",
            "tcp_to_ws",
            "ws_to_tcp",
            "proxy",
            "proxy_server",
            "demo",
            "__init__",
        ],
    },
    {
        "app": ["watch", "workers", "signals", "app"],
        "asgi": ["asgi"],
        "testing": ["testing"],
    },
    {
        "cli": [
            "flood",
            "hints",
            "log",
            "completion",
            "variables",
            "options",
            "daemon",
            "serve",
            "stw",
            "wts",
            "proxy",
            "proxy_server",
            "rust_proxy",
            "websockify",
            "ws_proxy",
            "hash_password",
            "demo",
            "main",
            "__init__",
        ]
    },
    {"face": ["__init__", "__main__"]},
]
BASE = {f"fastws.{name}" for name in LAYERS[0][""]}
TWINS = {f"fastws.{name}" for name in LAYERS[1]["_speedups"]}
# Layers that take plain arguments.
WITHOUT_CONFIG = {"wire", "net", "upstream", "http", "proxy", "ws"}
# The machines of wire are given what these would fetch.
NOT_IN_WIRE = {
    *("asyncio", "io", "multiprocessing", "os", "random", "secrets", "select"),
    *("selectors", "signal", "socket", "ssl", "subprocess", "threading", "time"),
    *("uvloop", "uuid"),
}
OPTIONAL = {"aiofastnet", "cryptography", "h2", "prometheus_client", "redis", "rich"}
# Loaded when it is first used.
OPTIONAL |= {"python_socks"}
# Not to be had on Windows.
OPTIONAL |= {"uvloop", "fcntl", "resource", "termios"}
TEST_IMPORT = re.compile(
    r"^ *(?:from|import) (tests\.(?:\w+\.)*test_\w+)", re.MULTILINE
)
# What a mistyped line, a shell's completion or one format of the log needs, and no
# other start should wait for.
LAZY = {"difflib", "click.shell_completion", "json"}
DYNAMIC = {"fastws", "fastws.app", "fastws.cli.main"}
# Each runner stands alone; helpers of modes are not listed here.
RUNNERS = {
    f"fastws.modes.{name}"
    for name in (
        *("tcp_to_ws", "ws_to_tcp", "proxy", "proxy_server", "wsps", "wspc"),
        *("stream", "reverse", "tunnel_server", "tunnel_client"),
        *("control", "demo", "cert", "run"),
    )
}


def name_of(path: Path) -> str:
    """``fastws/net/dial.py`` → ``fastws.net.dial``; a package's file is its name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def layer_of(module: str) -> tuple[int, str, int]:
    """Row, layer and place in the layer of a module; the place is the file's."""
    parts = module.split(".")[1:]
    if not parts or parts == ["__main__"]:
        layer, file = "face", (parts or ["__init__"])[0]
    elif module in FILES and FILES[module].name == "__init__.py":
        layer, file = parts[0], "__init__"
    elif len(parts) > 1:
        layer, file = parts[0], parts[1]
    else:
        file = parts[0]
        layer = next((k for row in LAYERS for k in row if file in row[k]), "?")
    for number, row in enumerate(LAYERS):
        if layer in row and file in row[layer]:
            return number, layer, row[layer].index(file)
    raise LookupError(f"{module} has no place in LAYERS: put it there")


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that a tree imports anywhere, with the statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner in FILES or inner in TWINS
                yield inner if is_module else node.module, node


def internal(module: str) -> set[str]:
    """What a module of the package imports from the package."""
    found = {name for name, _ in imports(TREES[module])}
    return {name for name in found if name.split(".")[0] == "fastws"}


def test_modules_found() -> None:
    assert {"fastws.exceptions", "fastws._backend", "fastws.net.stream"} <= set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    row, layer, place = layer_of(module)
    for other in sorted(internal(module)):
        other_row, other_layer, other_place = layer_of(other)
        if other_layer == layer:
            assert other_place < place, f"{module} imports {other}, which comes later"
        else:
            assert other_row < row, f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("module", FILES)
def test_imports_respect_reservations(module: str) -> None:
    layer = layer_of(module)[1]
    used = internal(module)
    if layer in WITHOUT_CONFIG:
        config = {name for name in used if name.startswith("fastws.config")}
        allowed = {"fastws.config.endpoint", "fastws.config.proxy"}
        assert config <= (allowed if layer == "ws" else set())
    if layer == "config":
        allowed = BASE | {name for name in used if name.startswith("fastws.config")}
        assert used <= allowed
    if layer == "":
        assert used <= {"fastws._consts"} if module == "fastws.typing" else not used
    if layer not in {"_backend", "_speedups"}:
        assert not used & TWINS, "only fastws._backend imports a twin"
    if module in RUNNERS:
        assert not used & RUNNERS - {module}, "no mode imports another"


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("fastws.wire")])
def test_wire_does_no_io(module: str) -> None:
    used = {name.split(".")[0] for name, _ in imports(TREES[module])}
    assert not used & NOT_IN_WIRE


def test_no_cycles() -> None:
    graph = {module: internal(module) - {module} for module in FILES}
    assert set(TopologicalSorter(graph).static_order()) >= set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_imports_in_functions_are_optional_or_seldom_needed(module: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for node in ast.walk(TREES[module]):
        if not isinstance(node, functions):
            continue
        for name, statement in imports(node):
            where = f"{module}:{statement.lineno} imports {name} in a function"
            assert name.split(".")[0] in OPTIONAL or name in LAZY, where


def dynamic_imports(tree: ast.AST) -> list[int]:
    """Lines that call ``importlib.import_module`` or ``__import__``."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"import_module", "__import__"}:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("module", FILES)
def test_dynamic_imports_stand_in_few_modules(module: str) -> None:
    assert module in DYNAMIC or dynamic_imports(TREES[module]) == []


def test_compiled_twin_imports_shared_modules_only() -> None:
    sources = [*PACKAGE.glob("*.pyx"), *PACKAGE.glob("*.pxi"), *PACKAGE.glob("*.pxd")]
    assert sources
    for path in sources:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            words = line.split()
            if words[:1] not in (["from"], ["import"], ["cimport"]):
                continue
            if words[1] == "fastws" and words[2] in {"import", "cimport"}:
                used = {f"fastws.{name.strip(',')}" for name in words[3:]}
            else:
                used = {words[1]} if words[1].startswith("fastws") else set()
            assert used <= BASE | TWINS, f"{path.name}:{number}: {line}"


def test_tests_share_what_stands_in_support() -> None:
    """A helper that two files need belongs to neither of them."""
    found = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for module in TEST_IMPORT.findall(path.read_text("utf-8"))
    ]
    assert found == []
