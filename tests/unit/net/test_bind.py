"""Listening sockets: addresses, ports in use, unix files, inherited descriptors."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fastws.exceptions import ListenError
from fastws.net.bind import (
    adopt_fd,
    bind_tcp,
    bind_unix,
    describe_listener,
    open_listeners,
)
from tests.support.machine import needs_ipv6
from tests.support.servers import closing
from tests.support.timing import LONG

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux behaviour")
unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="unix sockets")

# TEST-NET-3 (RFC 5737): no machine has it.
NOWHERE = "203.0.113.1"


def failure(*args: object, **kwargs: object) -> ListenError:
    with pytest.raises(ListenError) as caught:
        bind_tcp(*args, **kwargs)  # type: ignore[arg-type]
    return caught.value


def test_bind_and_connect() -> None:
    (sock,) = bind_tcp(["127.0.0.1"], 0)
    with closing(sock):
        assert sock.gettimeout() == 0
        assert sock.get_inheritable() is False
        port = sock.getsockname()[1]
        assert describe_listener(sock) == f"127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port)).close()


@needs_ipv6
def test_port_0_is_one_number_for_all_hosts() -> None:
    socks = bind_tcp(["127.0.0.1", "::1"], 0, optional=["::1"])
    with closing(*socks):
        four, six = (sock.getsockname() for sock in socks)
        assert four[1] == six[1]
        assert describe_listener(socks[1]) == f"[::1]:{six[1]}"


@needs_ipv6
def test_port_0_is_tried_again_when_the_number_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first number is in use on ::1, so another must be found for both."""
    with socket.socket(socket.AF_INET6) as blocker:
        blocker.bind(("::1", 0))
        blocker.listen()
        taken = blocker.getsockname()[1]
        real, tries = socket.socket.bind, []

        def bind(self: socket.socket, address: tuple[object, ...]) -> None:
            if address == ("127.0.0.1", 0):
                tries.append(address)
                if len(tries) == 1:
                    address = ("127.0.0.1", taken)
            real(self, address)

        monkeypatch.setattr("socket.socket.bind", bind)
        socks = bind_tcp(["127.0.0.1", "::1"], 0)
    with closing(*socks):
        assert len(tries) == 2
        ports = {sock.getsockname()[1] for sock in socks}
        assert len(ports) == 1
        assert taken not in ports


@needs_ipv6
def test_all_interfaces_of_both_families() -> None:
    socks = bind_tcp(["0.0.0.0", "::"], 0, optional=["0.0.0.0", "::"])
    with closing(*socks):
        assert [sock.family for sock in socks] == [socket.AF_INET, socket.AF_INET6]
        assert socks[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_reject_port_in_use() -> None:
    socks = bind_tcp(["127.0.0.1"], 0)
    with closing(*socks):
        port = socks[0].getsockname()[1]
        error = failure(["127.0.0.1"], port)
        assert str(error) == f"127.0.0.1:{port}: address already in use"
        assert error.errno == errno.EADDRINUSE
        assert isinstance(error, OSError)


def test_port_in_use_is_no_missing_address() -> None:
    socks = bind_tcp(["127.0.0.1"], 0)
    with closing(*socks):
        port = socks[0].getsockname()[1]
        assert failure(["127.0.0.1"], port, optional=["127.0.0.1"]).errno == (
            errno.EADDRINUSE
        )


def test_optional_address_may_be_missing() -> None:
    (sock,) = bind_tcp([NOWHERE, "127.0.0.1"], 0, optional=[NOWHERE])
    with closing(sock):
        assert sock.getsockname()[0] == "127.0.0.1"


def test_reject_missing_address() -> None:
    text = f"{NOWHERE}:80: cannot assign requested address"
    assert str(failure([NOWHERE], 80)) == text
    assert str(failure(["127.0.0.1", NOWHERE], 0)).startswith(f"{NOWHERE}:")


def test_reject_when_no_optional_address_is_left() -> None:
    error = failure([NOWHERE], 80, optional=[NOWHERE])
    assert error.errno == errno.EADDRNOTAVAIL


def test_reject_unknown_name() -> None:
    assert str(failure(["a..b"], 80)) == "a..b:80: unknown name"


def test_reject_no_host() -> None:
    assert str(failure([], 80)) == "no address to listen on"


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() == 0, reason="root may bind any port"
)
def test_reject_privileged_port() -> None:
    assert str(failure(["127.0.0.1"], 1)) == "127.0.0.1:1: permission denied"


@linux_only
def test_reuse_port_gives_each_worker_a_socket() -> None:
    (first,) = bind_tcp(["127.0.0.1"], 0, reuse_port=True)
    with closing(first):
        port = first.getsockname()[1]
        (second,) = bind_tcp(["127.0.0.1"], port, reuse_port=True)
        with closing(second):
            assert second.getsockname() == first.getsockname()


@unix_only
def test_unix_file_lives_as_long_as_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    sock = bind_unix(str(path))
    assert path.is_socket()
    assert describe_listener(sock) == f"unix:{path}"
    with closing(sock), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert not path.exists()
    sock.close()


@unix_only
def test_unix_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    bind_unix(str(path)).close()
    assert not path.exists()


@unix_only
def test_reject_unix_file_that_is_served(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    sock = bind_unix(str(path), backlog=0)
    with closing(sock), socket.socket(socket.AF_UNIX) as client:
        for _ in range(2):  # the second finds its backlog full: it lives all the same
            with pytest.raises(ListenError) as caught:
                bind_unix(str(path))
            assert str(caught.value) == f"unix:{path}: address already in use"
            assert caught.value.errno == errno.EADDRINUSE
            client.close()
        assert path.is_socket()


@unix_only
def test_reject_unix_path_that_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me", "ascii")
    with pytest.raises(ListenError) as caught:
        bind_unix(str(path))
    assert str(caught.value) == f"unix:{path}: exists and is not a socket"
    assert path.read_text("ascii") == "keep me"


@unix_only
def test_reject_unix_path_without_directory(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.sock"
    with pytest.raises(ListenError) as caught:
        bind_unix(str(path))
    assert str(caught.value) == f"unix:{path}: no such file or directory"


@unix_only
def test_unix_close_leaves_a_successor_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    old = bind_unix(str(path))
    path.unlink()
    new = bind_unix(str(path))
    with closing(new):
        old.close()
        assert path.is_socket()


@unix_only
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_unix_close_in_a_worker_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    script = f"""
import os
from fastws.net.bind import bind_unix
sock = bind_unix({str(path)!r})
child = os.fork()
if child == 0:
    sock.close()
    os._exit(0)
os.waitpid(child, 0)
print(os.path.exists({str(path)!r}))
sock.close()
print(os.path.exists({str(path)!r}))
"""
    out = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert out.stdout.split() == ["True", "False"]


def test_adopt_listening_descriptor() -> None:
    (sock,) = bind_tcp(["127.0.0.1"], 0)
    name = sock.getsockname()
    sock.setblocking(True)
    adopted = adopt_fd(sock.detach())
    with closing(adopted):
        assert adopted.getsockname() == name
        assert adopted.gettimeout() == 0
        socket.create_connection(name).close()


def test_reject_descriptor_that_does_not_listen(tmp_path: Path) -> None:
    with socket.socket() as sock:
        fd = sock.fileno()
        with pytest.raises(ListenError) as caught:
            adopt_fd(fd)
        assert str(caught.value) == f"fd:{fd}: not a listening stream socket"
        os.fstat(fd)  # still open
    with open(tmp_path / "file", "wb") as file:
        fd = file.fileno()
        with pytest.raises(ListenError) as caught:
            adopt_fd(fd)
        assert str(caught.value) == f"fd:{fd}: socket operation on non-socket"
    with pytest.raises(ListenError, match=r"^fd:987654: bad file descriptor$"):
        adopt_fd(987654)


@unix_only
def test_open_listeners_takes_one_of_three(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    (unix,) = open_listeners(path=path)
    (tcp,) = open_listeners(hosts=["127.0.0.1"])
    name = tcp.getsockname()
    (adopted,) = open_listeners(fd=tcp.detach())
    with closing(unix, adopted):
        assert describe_listener(unix) == f"unix:{path}"
        assert adopted.getsockname() == name
