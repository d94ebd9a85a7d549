"""What ``fastws rust-proxy`` makes of its command line and variables."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastws.cli.rust_proxy import rust_proxy
from fastws.config.forward import ForwardProxy
from fastws.config.proxy_server import ProxyServer
from fastws.config.secret_file import SecretFile


class Ran:
    """What the command would have run."""

    def __init__(self) -> None:
        self.specs: list[Any] = []
        self.process: dict[str, Any] = {}

    def __call__(self, specs: list[Any], **process: Any) -> int:
        self.specs, self.process = specs, process
        return 0


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ran:
    """Certificate and key stand where rust-proxy looks for them."""
    ran = Ran()
    monkeypatch.setattr(rust_proxy, "run", ran)
    monkeypatch.chdir(tmp_path)
    for name in ("fullchain.pem", "private.pem", "other.pem"):
        (tmp_path / name).write_text("PEM")
    return ran


def invoke(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(rust_proxy, arguments, env=variables)


def test_a_server_by_default(ran: Ran) -> None:
    assert invoke("-t", "tok").exit_code == 0
    (spec,) = ran.specs
    assert spec == ProxyServer(
        listen="127.0.0.1:8080",
        auth_token=("tok",),
        cert="fullchain.pem",
        key="private.pem",
    )


def test_options_of_the_server_beside_its_own(ran: Ran) -> None:
    more = ("--allow", "intra.corp", "--max-data", "1KiB", "--log-level", "debug")
    short = ("-m", "server", "-l", ":443", "-f", "other.pem", "-k", "other.pem")
    result = invoke(*short, *more, AUTHORIZATION="tok")
    assert (result.exit_code, result.output) == (0, "")
    (spec,) = ran.specs
    assert (spec.listen.port, spec.cert, spec.max_data) == (443, "other.pem", 1024)
    assert [str(rule) for rule in spec.allow] == ["intra.corp"]
    assert ran.process["log_level"] == "debug"


def test_a_server_without_a_token_on_purpose(ran: Ran) -> None:
    assert invoke("--no-auth").exit_code == 0
    assert (ran.specs[0].auth_token, ran.specs[0].no_auth) == ((), True)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("proxy.example", "wss://proxy.example"),
        ("proxy.example:9443/some/path", "wss://proxy.example:9443/some/path"),
        ("[::1]:9443", "wss://[::1]:9443"),
        ("ws://127.0.0.1:80/x", "ws://127.0.0.1:80/x"),
    ],
)
def test_a_client(ran: Ran, where: str, url: str) -> None:
    result = invoke("-m", "client", "-l", "1080", "-t", "tok", "-p", where)
    assert (result.exit_code, result.output) == (0, "")
    (spec,) = ran.specs
    assert isinstance(spec, ForwardProxy)
    assert (str(spec.via), spec.via_protocol, spec.via_token) == (
        url,
        "rust-proxy",
        "tok",
    )


def test_a_client_without_a_token_and_with_options(ran: Ran) -> None:
    more = ("--ca", "other.pem", "--pool-keep", "3")
    result = invoke(
        *more, MODE="client", LISTEN="127.0.0.1:1080", PROXY="proxy.example"
    )
    assert (result.exit_code, result.output) == (0, "")
    (spec,) = ran.specs
    assert (spec.via_token, spec.ca, spec.pool_keep) == (None, "other.pem", 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-t", "tok", "--ca", "x"), "--ca is for -m client."),
        (("-t", "tok", "--pool-keep", "3"), "--pool-keep is for -m client."),
        (("-m", "client", "-p", "h", "--path", "/"), "--path is for -m server."),
        (("-m", "both"), "write client or server"),
        (("-l", "nowhere"), "is not an address"),
        (("-t", "two words"), "the token must be one word"),
    ],
)
def test_mistakes_of_the_command_line(
    ran: Ran, arguments: tuple[str, ...], text: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert ran.specs == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Error: --authorization: is empty"),
        (("-t", ""), "Error: --authorization: is empty"),
        (("-m", "client"), "Error: --proxy_addr: is missing"),
        (("-t", "tok", "-f", "no"), "Error: --fullchain: no: cannot be read"),
        (("-t", "tok", "-k", "no"), "Error: --private_key: no: cannot be read"),
        (("-m", "client", "-p", "user@h"), "Error: --proxy_addr: "),
    ],
)
def test_wrong_values_end_with_78(
    ran: Ran, arguments: tuple[str, ...], text: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 78
    assert result.output.startswith(text)
    assert ran.specs == []


def test_variables_that_name_files(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" tok\n")
    (tmp_path / "mode").write_text("server\n")
    variables = {
        "AUTHORIZATION_FILE": "token",
        "MODE_FILE": "mode",
        "FULLCHAIN_FILE": "other.pem",
        "PRIVATE_KEY_FILE": "other.pem",
    }
    result = invoke(**variables)
    assert (result.exit_code, result.output) == (0, "")
    (spec,) = ran.specs
    assert (spec.auth_token, spec.cert, spec.key) == (
        ("tok",),
        "other.pem",
        "other.pem",
    )
    (secret,) = ran.process["secrets"]
    assert isinstance(secret, SecretFile)
    assert secret.place == "AUTHORIZATION_FILE token"
    assert secret.parse("next\n") == ("next",)


def test_the_command_line_wins_over_the_file(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tok")
    assert invoke("-t", "mine", AUTHORIZATION_FILE="token").exit_code == 0
    assert ran.specs[0].auth_token == ("mine",)
    assert "secrets" not in ran.process


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"AUTHORIZATION_FILE": "no"}, "AUTHORIZATION_FILE: no: No such file"),
        ({"AUTHORIZATION_FILE": "empty"}, "AUTHORIZATION_FILE: empty: holds no value"),
        ({"AUTHORIZATION_FILE": "x", "AUTHORIZATION": "y"}, "AUTHORIZATION is set too"),
        ({"AUTHORIZATION": "tok", "FULLCHAIN_FILE": "no"}, "--fullchain: no: cannot"),
    ],
)
def test_files_that_are_no_use(
    ran: Ran, tmp_path: Path, variables: dict[str, str], text: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    result = invoke(**variables)
    assert result.exit_code == 78
    assert text in result.output
    assert ran.specs == []
