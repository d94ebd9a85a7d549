"""Real clients and servers with ``fastws proxy`` between them: curl and aiohttp."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.aiohttp_app import aiohttp_app
from tests.support.cli import Fastws
from tests.support.programs import program
from tests.support.timing import LONG

pytestmark = pytest.mark.interop

SIZE = 32 << 20
BLOCK = bytes(range(256)) * 256


async def echo(request: web.Request) -> web.Response:
    """Say what came."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "fields": {name.lower(): value for name, value in request.headers.items()},
            "body": hashlib.sha256(body).hexdigest(),
            "size": len(body),
        },
        headers={"Connection": "X-Hop", "X-Hop": "1", "X-End": "2"},
    )


async def bulk(request: web.Request) -> web.StreamResponse:
    """``SIZE`` bytes, in chunks or by length."""
    response = web.StreamResponse()
    if request.path == "/chunks":
        response.enable_chunked_encoding()
    else:
        response.content_length = SIZE
    await response.prepare(request)
    for _ in range(SIZE // len(BLOCK)):
        await response.write(BLOCK)
    return response


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Send back every message."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws


@contextlib.asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """A server on loopback; yields its URL."""
    routes = {"/echo": echo, "/chunks": bulk, "/length": bulk, "/ws": socket}
    async with aiohttp_app(routes, client_max_size=2 * SIZE) as port:
        yield f"http://127.0.0.1:{port}"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, LONG))


async def curl(proxy: Fastws, *arguments: str) -> bytes:
    """What curl printed through the proxy; it has to succeed."""
    process = await asyncio.create_subprocess_exec(
        program("curl"),
        *("-q", "-sS", "--noproxy", "", "-x", f"http://127.0.0.1:{proxy.port}"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return out


UPLOADS = {
    "length": (),
    "chunked": ("-H", "Transfer-Encoding: chunked"),
    "expect": ("-H", "Expect: 100-continue"),
    "http1.0": ("--http1.0",),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_upload_by_curl(tmp_path: Path, name: str) -> None:
    """The file arrives whole, and the fields of one hop do not."""
    data = BLOCK * 40
    (tmp_path / "data").write_bytes(data)

    async def main() -> None:
        async with origin() as url:
            with Fastws("proxy", "127.0.0.1:0", "--user", "u:p") as proxy:
                options = ("--proxy-user", "u:p", "--data-binary")
                out = await curl(
                    *(proxy, *options, f"@{tmp_path}/data", "-D", "-"),
                    *(*UPLOADS[name], f"{url}/echo?a=b"),
                )
        head, _, body = out.rpartition(b"\r\n\r\n")
        seen = json.loads(body)
        assert (seen["method"], seen["path"]) == ("POST", "/echo?a=b")
        assert seen["size"] == len(data)
        assert seen["body"] == hashlib.sha256(data).hexdigest()
        assert url.endswith(seen["fields"]["host"])
        for field in ("proxy-authorization", "proxy-connection"):
            assert field not in seen["fields"]
        assert b"X-End: 2" in head
        assert b"X-Hop" not in head

    run(main())


@pytest.mark.parametrize("path", ["/length", "/chunks"])
def test_bulk_by_curl(path: str) -> None:
    async def main() -> None:
        async with origin() as url:
            with Fastws("proxy", "127.0.0.1:0") as proxy:
                out = await curl(proxy, f"{url}{path}")
        assert hashlib.sha256(out).digest() == expected

    expected = hashlib.sha256(BLOCK * (SIZE // len(BLOCK))).digest()
    run(main())


def test_one_connection_of_curl_to_two_origins() -> None:
    async def main() -> None:
        async with origin() as a, origin() as b:
            with Fastws("proxy", "127.0.0.1:0") as proxy:
                urls = [f"{a}/echo", f"{b}/echo", f"{a}/echo", f"{a}/echo"]
                form = "%{num_connects} "
                out = await curl(proxy, "-o", "/dev/null", "-w", form, *more(urls))
        assert out == b"1 0 0 0 "

    def more(urls: list[str]) -> list[str]:
        first, *others = urls
        return [first, *(word for url in others for word in ("-o", "/dev/null", url))]

    run(main())


def test_aiohttp_asks_and_uploads_at_once() -> None:
    """Streams of unknown length, many at a time over kept connections."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield BLOCK
            await asyncio.sleep(0)

    async def ask(session: aiohttp.ClientSession, url: str, proxy: str) -> None:
        data = hashlib.sha256(BLOCK * 16).hexdigest()
        for expect in (False, True):
            async with session.post(
                f"{url}/echo", data=parts(), proxy=proxy, expect100=expect
            ) as answer:
                assert answer.status == 200
                assert (await answer.json())["body"] == data
            async with session.get(f"{url}/echo", proxy=proxy) as answer:
                assert (await answer.json())["method"] == "GET"

    async def main() -> None:
        async with origin() as url:
            with Fastws("proxy", "127.0.0.1:0") as proxy:
                through = f"http://127.0.0.1:{proxy.port}"
                async with aiohttp.ClientSession() as session:
                    tasks = [ask(session, url, through) for _ in range(16)]
                    await asyncio.gather(*tasks)

    run(main())


def test_aiohttp_websocket_without_connect() -> None:
    """An upgrade in absolute-form: both ends speak frames afterwards."""

    async def main() -> None:
        async with origin() as url:
            with Fastws("proxy", "127.0.0.1:0") as proxy:
                through = f"http://127.0.0.1:{proxy.port}"
                async with (
                    aiohttp.ClientSession() as session,
                    session.ws_connect(f"{url}/ws", proxy=through) as ws,
                ):
                    for _ in range(4):
                        await ws.send_bytes(BLOCK)
                        assert await ws.receive_bytes() == BLOCK

    run(main())
