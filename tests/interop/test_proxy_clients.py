"""fastws proxy with clients of others: curl, aiohttp, python-socks.

curl is skipped where it is not installed.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from tests.support.certs import certs
from tests.support.cli import Fastws, clean_environment
from tests.support.origin import Origin, forward_proxy
from tests.support.servers import free_port
from tests.support.timing import LONG

pytestmark = pytest.mark.interop

LOGIN = "alice:se:cret"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture(scope="module")
def proxy() -> Iterator[Fastws]:
    with forward_proxy() as process:
        yield process


@pytest.fixture(scope="module")
def guarded() -> Iterator[Fastws]:
    with forward_proxy("--user", LOGIN) as process:
        yield process


def curl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("curl", path=os.environ.get("PATH", os.defpath))
    if program is None:
        pytest.skip("curl is not installed")
    command = [program, "-sS", "--max-time", f"{LONG:g}", *arguments]
    return subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=False
    )


def ways(port: int) -> dict[str, list[str]]:
    """How curl is told to use the proxy."""
    where = f"127.0.0.1:{port}"
    return {
        "http": ["-x", f"http://{where}"],
        "connect": ["-x", f"http://{where}", "--proxytunnel"],
        "socks5": ["--socks5", where],
        "socks5h": ["--socks5-hostname", where],
    }


@pytest.mark.parametrize("way", ["http", "connect", "socks5", "socks5h"])
def test_d1_d3_d7_curl(proxy: Fastws, origin: Origin, way: str) -> None:
    """GET and POST on one connection; 100-continue; all ways on the same port."""
    url = f"http://localhost:{origin.port}"
    options = ways(proxy.port)[way]
    body = "x" * 2000
    done = curl(*options, "-4", f"{url}/a", "-d", body, "-w", "\n", f"{url}/b")
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["path"] for one in seen] == ["/a", "/b"]
    assert [one["method"] for one in seen] == ["POST", "POST"]
    assert [one["body"] for one in seen] == [body, body]
    done = curl(*options, "-T", "-", "-H", "Expect: 100-continue", f"{url}/c")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"] == "PUT"


@pytest.mark.parametrize("way", ["http", "connect", "socks5", "socks5h"])
def test_d5_curl_with_users(guarded: Fastws, way: str) -> None:
    with Origin() as origin:
        url = f"http://127.0.0.1:{origin.port}/"
        options = ways(guarded.port)[way]
        for wrong in ((), ("--proxy-user", "alice:secret")):
            done = curl(*options, *wrong, "-o", "/dev/null", "-w", "%{http_code}", url)
            assert done.stdout == "407" or done.returncode != 0
        assert origin.accepted == 0
        done = curl(*options, "--proxy-user", LOGIN, url)
        assert done.returncode == 0, done.stderr
        assert "proxy-authorization" not in json.loads(done.stdout)["fields"]


@pytest.mark.parametrize(
    ("host", "code"), [("127.0.0.1", "(5)"), ("-no.such.name.invalid", "(4)")]
)
def test_d10_curl_hears_why(proxy: Fastws, host: str, code: str) -> None:
    port = free_port()
    done = curl(*ways(proxy.port)["socks5h"], f"http://{host}:{port}/")
    assert done.returncode == 97
    assert code in done.stderr


def test_d2_curl_through_a_tls_proxy(origin: Origin) -> None:
    with forward_proxy("--cert", certs().server) as proxy:
        options = ["-x", f"https://localhost:{proxy.port}", "--proxy-cacert"]
        url = f"http://127.0.0.1:{origin.port}/tls"
        done = curl(*options, certs().ca, "-p", url)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["path"] == "/tls"


def test_d1_d6_aiohttp(guarded: Fastws) -> None:
    """Two origins in turn, bodies in chunks, credentials on each request."""

    async def main() -> list[dict[str, Any]]:
        auth = aiohttp.BasicAuth("alice", "se:cret")
        url = f"http://127.0.0.1:{guarded.port}"
        timeout = aiohttp.ClientTimeout(LONG)
        seen = []
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def parts() -> Any:
                yield b"one "
                yield b"two"

            for number in range(4):
                at = f"http://127.0.0.1:{(a, b)[number % 2].port}/{number}"
                async with session.post(
                    at, proxy=url, proxy_auth=auth, data=parts()
                ) as answer:
                    assert answer.status == 200
                    seen.append(json.loads(await answer.text()))
            async with session.get(at, proxy=url) as answer:
                assert answer.status == 407
        return seen

    with Origin(name="a") as a, Origin(name="b") as b:
        seen = asyncio.run(main())
    assert [one["origin"] for one in seen] == ["a", "b", "a", "b"]
    assert [one["path"] for one in seen] == ["/0", "/1", "/2", "/3"]
    assert {one["body"] for one in seen} == {"one two"}
    assert not any("proxy-authorization" in one["fields"] for one in seen)


@pytest.mark.parametrize("kind", [ProxyType.SOCKS5, ProxyType.HTTP])
@pytest.mark.parametrize("rdns", [False, True])
def test_d7_python_socks(
    guarded: Fastws, origin: Origin, kind: ProxyType, rdns: bool
) -> None:
    async def ask(password: str) -> bytes:
        proxy = Proxy(kind, "127.0.0.1", guarded.port, "alice", password, rdns=rdns)
        sock = await proxy.connect("127.0.0.1", origin.port, timeout=LONG)
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"GET /socks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), LONG)
        writer.close()
        return answer

    assert b'"path": "/socks"' in asyncio.run(ask("se:cret"))
    with pytest.raises(ProxyError):
        asyncio.run(ask("secret"))
