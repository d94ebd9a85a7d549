"""``python -m bench.e2e.tls_echo PORT CERT KEY``: a bare TLS echo server on uvloop.

It stands for what the event loop's TLS costs without any WebSocket on top.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import cast

import uvloop


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    __slots__ = ("_transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


async def main(port: int, cert: str, key: str) -> None:
    """Serve until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
