"""The command line as a user meets it: what it says, and its exit status.

Nothing here starts a mode; ``recorded`` stands for :mod:`fastws.app` where a test
asks which spec the arguments make.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

import fastws
from fastws.cli.main import cli
from fastws.config.schema import ModeSpec
from tests.support.cli import clean_environment, run_fastws
from tests.support.timing import LONG

STW = ("stw", "7000", "wss://edge.example/t")
WTS = ("wts", "8080", "127.0.0.1:22")


class Recorder:
    """Stands for ``fastws.app``: keeps the specs it was to run."""

    def __init__(self) -> None:
        self.specs: list[ModeSpec] = []
        self.process: dict[str, Any] = {}
        self.outcome: int | Exception = 0

    def run(self, specs: Sequence[ModeSpec], **process: Any) -> int:
        self.specs = list(specs)
        self.process = process
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def spec(self) -> Any:
        assert len(self.specs) == 1
        return self.specs[0]

    def setup(self, level: str, form: str, *, limit: int) -> None:
        self.log = level, form, limit


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    module = ModuleType("fastws.app")
    vars(module)["run"] = recorder.run
    monkeypatch.setitem(sys.modules, "fastws.app", module)
    monkeypatch.setitem(vars(fastws), "app", module)
    monkeypatch.setattr("fastws.cli.log.setup", recorder.setup)
    monkeypatch.setattr("fastws.cli.serve.on_stop", lambda handler: None)
    for name in [name for name in os.environ if name.startswith("FASTWS_")]:
        monkeypatch.delenv(name)
    return recorder


def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(cli, arguments, prog_name="fastws", env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def last_line(result: Result) -> str:
    return result.output.strip().splitlines()[-1]


# What it says


def test_bare_command_shows_what_to_type() -> None:
    done = run_fastws()
    assert done.returncode == 0
    assert "fastws wts 8080 127.0.0.1:22" in done.stdout
    assert "fastws stw 2222 wss://your.site/ssh" in done.stdout
    assert "fastws demo" in done.stdout
    assert done.stderr == ""


def test_version_names_backend_python_and_loop() -> None:
    done = run_fastws("--version")
    first, second = done.stdout.splitlines()
    assert done.returncode == 0
    assert first == f"fastws {fastws.__version__}"
    assert second.startswith("backend ")
    backend, python, loop = second.removeprefix("backend ").split(", ")
    assert backend in ("cython", "python")
    assert python.endswith(".".join(map(str, sys.version_info[:3])))
    assert loop.startswith("event loop ")


def test_version_shows_chosen_backend_and_loop() -> None:
    done = run_fastws("--version", FASTWS_PURE="1", FASTWS_LOOP="asyncio")
    assert done.stdout.splitlines()[1].startswith("backend python, ")
    assert done.stdout.endswith("event loop asyncio\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("stw", ("--connect-to HOST:PORT", "--on-eof hold|close", "--ping TIME")),
        ("wts", ("--path PATH", "--client-ca FILE", "--target-cert FILE")),
    ],
)
def test_help_is_grouped(command: str, flags: tuple[str, ...], flag: str) -> None:
    result = invoke(command, flag)
    assert result.exit_code == 0
    headings = [
        line for line in result.output.splitlines() if line and line[0] not in " U"
    ]
    expected = ["Arguments:", "Handshake:", "TLS (wss:// only):"]
    if command == "wts":
        expected.insert(1, "Several targets:")
        expected[3:] = ["TLS on LISTEN:", "TLS to TARGET (tls:// only):"]
        expected.append("Who comes in:")
    else:
        expected.append("Way out:")
    expected += ["Keep-alive and time-outs:", "Limits:", "Start, stop and log:"]
    assert headings == [*expected, "Variables:", "Examples:"]
    for text in (*flags, "LISTEN", "[20s]", "FASTWS_PING", "--help"):
        assert text in result.output
    assert max(map(len, result.output.splitlines())) <= 88


@pytest.mark.parametrize("command", ["stw", "wts", "websockify", "ws-proxy"])
def test_each_group_of_the_help_fits_a_screen(command: str) -> None:
    """Of 80 columns and 24 lines, one of which a pager needs."""
    result = CliRunner().invoke(cli, [command, "--help"], terminal_width=80)
    groups = [text.splitlines() for text in result.output.split("\n\n")]
    assert len(groups) >= 8
    assert [lines[0] for lines in groups if len(lines) > 23] == []
    assert max(len(line) for lines in groups for line in lines) <= 80


def test_help_works_where_only_latin_1_is_written() -> None:
    done = run_fastws("stw", "--help", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_neither_event_loop_nor_codec() -> None:
    code = (
        "import sys, fastws.cli.main as m\n"
        "try: m.cli(['stw', '--help'])\n"
        "except SystemExit: pass\n"
        "print([x for x in ('asyncio', 'ssl', 'fastws._backend') if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


# Exit status 2: the command line cannot be parsed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command 'nonsense'."),
        (("stw",), "Missing argument 'LISTEN'."),
        (("stw", "7000"), "Missing argument 'URL'."),
        (("wts", "8080"), "Missing argument 'TARGET'."),
        (
            (*WTS, "extra"),
            "Invalid value for 'TARGET': 'extra' has no port; write HOST:PORT",
        ),
        (
            ("stw", "7000", "ws://h/", "extra"),
            "Got unexpected extra argument (extra)",
        ),
        (
            ("stw", "x", "ws://h"),
            "Invalid value for 'LISTEN': 'x' is not an address; write PORT (loopback),",
        ),
        (
            ("stw", "7000", "h:80"),
            "Invalid value for 'URL': this is no WebSocket URL; write ws://HOST/",
        ),
        (
            ("wts", "8080", "22"),
            "Invalid value for 'TARGET': '22' has no host; write 127.0.0.1:22",
        ),
        (
            (*WTS, "--ping", "soon"),
            "Invalid value for '--ping': 'soon' is not a duration; write a number",
        ),
        (
            (*WTS, "--max-message", "big"),
            "Invalid value for '--max-message': 'big' is not a size; write a number",
        ),
        (
            (*WTS, "--max-connections", "-1"),
            "Invalid value for '--max-connections': '-1' is not a whole number",
        ),
        (
            (*WTS, "-H", "foo"),
            "Invalid value for '--header': a header has no colon; write 'Name: value'",
        ),
        (
            (*WTS, "--path", "ssh"),
            "Invalid value for '--path': 'ssh' is not a path; write /name",
        ),
        (
            (*WTS, "--allow-origin", "*"),
            "Invalid value for '--allow-origin': '*' is not an origin; write https://",
        ),
        (
            (*STW, "--on-eof", "wait"),
            "Invalid value for '--on-eof': 'wait' is none of them; write hold or close",
        ),
        (
            (*STW, "--sni", "10.0.0.1"),
            "Invalid value for '--sni': '10.0.0.1' is not a server name; write a DNS",
        ),
        (
            (*STW, "--connect-to", "h"),
            "Invalid value for '--connect-to': 'h' has no port; write HOST:PORT",
        ),
        (
            (*STW, "--log-level", "loud"),
            "Invalid value for '--log-level': 'loud' is none of them; write debug,",
        ),
        (("demo", "--size", "big"), "Invalid value for '--size': 'big' is not a size"),
    ],
)
def test_reject_malformed_argument(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert last_line(result).startswith("Error: " + message)


@pytest.mark.parametrize(
    "flag", ["--path", "--allow-host", "--allow-origin", "--client-ca", "--target-key"]
)
def test_option_of_wts_is_none_of_stw(flag: str) -> None:
    result = invoke(*STW, flag, "x")
    assert result.exit_code == 2
    assert f"No such option '{flag}'" in last_line(result).replace(": --", " '--")


@pytest.mark.parametrize("flag", ["--host", "--origin", "--connect-to", "--on-eof"])
def test_option_of_stw_is_none_of_wts(flag: str) -> None:
    result = invoke(*WTS, flag, "x")
    assert result.exit_code == 2
    assert "No such option" in result.output


def test_password_in_url_is_not_repeated() -> None:
    done = run_fastws("stw", "7000", "wss://user:hunter2@edge.example/")
    assert done.returncode == 2
    assert "write --basic USER:PASSWORD" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASTWS_PING", "soon", "'soon' is not a duration"),
        ("FASTWS_HEADER", "A: b\nfoo", "a header has no colon"),
        ("FASTWS_INSECURE", "maybe", "'maybe' is not a valid boolean"),
        ("FASTWS_NO_FASTWS", "maybe", "'maybe' is not a valid boolean"),
    ],
)
def test_malformed_variable_is_named(variable: str, value: str, message: str) -> None:
    done = run_fastws(*WTS, **{variable: value})
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"Error: Invalid value for '{variable}': {message}")


# Exit status 78: a well-formed value names something wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*WTS, "--key", "f"), "--key: needs --cert"),
        ((*WTS, "--client-ca", "f"), "--client-ca: needs --cert"),
        ((*WTS, "--insecure"), "--insecure: only means something with a tls:// target"),
        ((*WTS, "--max-message", "1023"), "--max-message: must be from 1KiB to 16MiB"),
        ((*WTS, "--ping-deadline", "0"), "--ping-deadline: must be more than 0"),
        ((*WTS, "--max-connections", "0"), "--max-connections: must be a whole number"),
        (("wts", "8080", "localhost:8080"), "LISTEN: is the address to connect to"),
        ((*STW, "-H", "Host: x"), "--header: use --host for Host"),
        ((*STW, "--insecure", "--ca", "f"), "--insecure: contradicts --ca"),
        ((*STW, "--subprotocol", "base64"), "--subprotocol: base64 is not spoken"),
    ],
)
def test_contradiction(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 78
    assert result.output.startswith("Error: " + message)
    assert result.output.count("\n") == 1


def test_contradiction_names_the_variable_it_came_from() -> None:
    done = run_fastws(*WTS, FASTWS_KEY="f")
    assert done.returncode == 78
    assert done.stderr.startswith("Error: FASTWS_KEY: needs --cert")
    assert done.stderr.count("\n") == 1


# What reaches the application


def test_arguments_become_a_spec(recorded: Recorder) -> None:
    result = invoke(
        *("stw", "--ping", "30s", "127.0.0.1:7000", "wss://edge.example/t?x=1"),
        *("-H", "Authorization: Basic abc", "-H", "A: b", "--host", "h.example"),
        *("--subprotocol", "binary", "--subprotocol", "x", "--on-eof", "CLOSE"),
        *("--connect-to", "[::1]:8443", "--sni", "h.example", "--no-fastws"),
        *("--max-message", "64KiB", "--max-connections", "5", "--idle-timeout", "1m"),
        *("--log-level", "DEBUG", "--log-format", "json", "--log-limit", "7"),
    )
    assert (result.exit_code, result.output) == (0, "")
    assert recorded.spec() == fastws.TcpToWs(
        listen="127.0.0.1:7000",
        upstream="wss://edge.example/t?x=1",
        ping=30.0,
        headers=(("Authorization", "Basic abc"), ("A", "b")),
        host="h.example",
        subprotocol=("binary", "x"),
        on_eof="close",
        connect_to="[::1]:8443",
        sni="h.example",
        fastws=False,
        max_message=65536,
        max_connections=5,
        idle_timeout=60.0,
    )
    logging = {"log_level": "debug", "log_format": "json"}
    assert recorded.process == {**logging, "workers": 1}
    assert recorded.log == ("debug", "json", 7)


def test_no_option_keeps_every_default(recorded: Recorder) -> None:
    assert invoke(*WTS).exit_code == 0
    assert recorded.spec() == fastws.WsToTcp(listen="8080", target="127.0.0.1:22")
    logging = {"log_level": "info", "log_format": "human"}
    assert recorded.process == {**logging, "workers": 1}
    assert recorded.log == ("info", "human", 20)


def test_variables_fill_in_and_arguments_win(recorded: Recorder) -> None:
    env = {
        "FASTWS_PING": "7s",
        "FASTWS_LINGER": "3s",
        "FASTWS_ALLOW_HOST": "a.example\n\n b.example \n",
        "FASTWS_NO_FASTWS": "1",
        "FASTWS_LOG_LEVEL": "error",
        "FASTWS_PATH": "",
        "FASTWS_CONNECT_TO": "of the other mode",
        "FASTWS_NONSENSE": "unknown",
    }
    assert invoke(*WTS, "--ping", "9s", env=env).exit_code == 0
    assert recorded.spec() == fastws.WsToTcp(
        listen="8080",
        target="127.0.0.1:22",
        ping=9.0,
        linger=3.0,
        allow_host=("a.example", "b.example"),
        fastws=False,
    )
    assert recorded.process["log_level"] == "error"


@pytest.mark.parametrize(("value", "announced"), [("0", True), ("true", False)])
def test_flag_variable(recorded: Recorder, value: str, announced: bool) -> None:
    assert invoke(*WTS, env={"FASTWS_NO_FASTWS": value}).exit_code == 0
    assert recorded.spec().fastws is announced


def test_headers_from_a_file(recorded: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Basic hunter2\n\nA: b\n", "utf-8")
    env = {"FASTWS_HEADER_FILE": str(file)}
    assert invoke(*WTS, env=env).exit_code == 0
    expected = (("Authorization", "Basic hunter2"), ("A", "b"))
    assert recorded.spec().headers == expected
    assert invoke(*WTS, "-H", "C: d", env=env).exit_code == 0
    assert recorded.spec().headers == (("C", "d"),)
    assert "secrets" not in recorded.process


def test_files_with_secrets_are_handed_on(recorded: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("a\n\nb\n", "utf-8")
    env = {"FASTWS_AUTH_TOKEN_FILE": str(file), "FASTWS_PING": "3s"}
    assert invoke(*WTS, env=env).exit_code == 0
    assert recorded.spec().auth_token == ("a", "b")
    (secret,) = recorded.process["secrets"]
    assert secret.place == f"FASTWS_AUTH_TOKEN_FILE {file}"
    assert secret.parse("c\n") == ("c",)


@pytest.mark.parametrize("contents", ["", "\n \n"])
@pytest.mark.parametrize("name", ["AUTH_TOKEN", "HEADER"])
def test_empty_file_does_not_switch_an_option_off(
    recorded: Recorder, tmp_path: Path, name: str, contents: str
) -> None:
    file = tmp_path / "empty"
    file.write_text(contents, "utf-8")
    result = invoke(*WTS, env={f"FASTWS_{name}_FILE": str(file)})
    message = f"Error: FASTWS_{name}_FILE: {file}: holds no value\n"
    assert (result.exit_code, result.output) == (78, message)
    assert recorded.specs == []


def test_bad_header_file_is_named(recorded: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    env = {"FASTWS_HEADER_FILE": str(file)}
    result = invoke(*WTS, env=env)
    message = f"Error: FASTWS_HEADER_FILE: {file}: No such file or directory\n"
    assert (result.exit_code, result.output) == (78, message)
    file.write_bytes(b"\xff")
    result = invoke(*WTS, env=env)
    message = f"Error: FASTWS_HEADER_FILE: {file}: is not UTF-8\n"
    assert (result.exit_code, result.output) == (78, message)
    file.write_text("Upgrade: x")
    result = invoke(*WTS, env=env)
    assert result.exit_code == 78
    assert result.output.startswith("Error: FASTWS_HEADER_FILE: Upgrade belongs to")
    file.write_text("nonsense")
    result = invoke(*WTS, env=env)
    assert result.exit_code == 2
    assert "Invalid value for 'FASTWS_HEADER_FILE': a header has" in result.output
    result = invoke(*WTS, env={**env, "FASTWS_HEADER": "A: b"})
    message = "Error: FASTWS_HEADER_FILE: FASTWS_HEADER is set too\n"
    assert (result.exit_code, result.output) == (78, message)


# What the application ends with


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (fastws.ConfigError("/x.pem", "no certificate"), 78, "/x.pem: no certificate"),
        (fastws.ConfigError("cert", "is unreadable"), 78, "--cert: is unreadable"),
        (fastws.ConfigError("", "nothing to do"), 78, "nothing to do"),
        (fastws.NoUpstream("h:1: connection refused"), 1, "h:1: connection refused"),
        (OSError(98, "127.0.0.1:80: address in use"), 1, "127.0.0.1:80: address in"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
    ],
)
def test_outcome_becomes_exit_status(
    recorded: Recorder, outcome: int | Exception, code: int, message: str
) -> None:
    recorded.outcome = outcome
    result = invoke(*STW)
    assert result.exit_code == code
    if message:
        assert result.output.startswith("Error: " + message)
        assert result.output.count("\n") == 1
    else:
        assert result.output == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to handle")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_signal_outside_the_loop_is_a_normal_end(name: str, moment: str) -> None:
    code = (
        "import os, signal, sys, types\n"
        "import fastws, fastws.cli.main as main\n"
        f"def hit(): os.kill(os.getpid(), signal.{name})\n"
        "def run(specs, **logging):\n"
        f"    if {moment == 'before'}: hit(); print('still here')\n"
        "    return 0\n"
        "fastws.app = sys.modules['fastws.app'] = types.SimpleNamespace(run=run)\n"
        "exit = sys.exit\n"
        f"def leave(code): {moment == 'after'} and hit(); exit(code)\n"
        "sys.exit = leave\n"
        f"main.cli({list(WTS)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
