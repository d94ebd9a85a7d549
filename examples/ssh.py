"""ssh through a WebSocket, with asyncssh on both ends and no local port."""

import asyncio

import asyncssh

import fastws


class Tunnel:
    """What asyncssh asks for a connection."""

    def __init__(self, url):
        self.url = url

    async def create_connection(self, factory, host, port):
        return await fastws.open_transport(self.url, factory)


class Open(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False  # no password; a real server has users and keys


def greet(process):
    process.stdout.write(f"{process.command} for {process.get_extra_info('username')}")
    process.exit(0)


async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    ssh = await asyncssh.listen(
        *("127.0.0.1", 0),
        server_host_keys=[key],
        server_factory=Open,
        process_factory=greet,
    )
    wts = fastws.WsToTcp(listen="127.0.0.1:0", target=f"127.0.0.1:{ssh.get_port()}")
    async with fastws.app.start(wts) as (gate,):
        tunnel = Tunnel(f"ws://{gate.endpoints[0]}/")
        known = asyncssh.import_known_hosts(
            f"inside {key.export_public_key().decode()}"
        )
        options = {"username": "me", "known_hosts": known, "config": []}
        async with asyncssh.connect("inside", tunnel=tunnel, **options) as connection:
            print((await connection.run("a command")).stdout)
    ssh.close()


asyncio.run(main())
