"""The programs of docs/howto/migrate-from-websockets.md run with both libraries."""

import asyncio
import importlib
import inspect
import re
import sys

import pytest

import fastws
import fastws.exceptions
from tests.support.programs import ROOT, run

PAGE = (ROOT / "docs" / "howto" / "migrate-from-websockets.md").read_text("utf-8")
PROGRAMS = dict(
    re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)
)
LIBRARIES = ["fastws", "websockets"]


def names_of(heading: str) -> set[str]:
    """What stands in the table below a heading, between backquotes."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([A-Za-z_]+)`", section))


def test_every_program_says_what_it_prints() -> None:
    assert PAGE.count("```python") == len(PROGRAMS) == 5


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(library: str, number: int) -> None:
    if library != "fastws":
        pytest.importorskip(library)
    program, expected = list(PROGRAMS.items())[number]
    said = run(sys.executable, "-c", program.replace("fastws", library)).decode()
    assert said == expected


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_that_are_the_same_exist(library: str) -> None:
    """In both: as a name, an argument, or an attribute of one of the classes."""
    pytest.importorskip(library)
    module = importlib.import_module(library)
    errors = importlib.import_module(f"{library}.exceptions")
    classes = [module.ClientConnection, module.ServerConnection, module.Server]
    known = {name for where in (module, errors, *classes) for name in dir(where)}
    for call in (module.connect, module.serve):
        for names in re.findall(r"^ +(\w+): |``(\w+)``", call.__doc__, re.MULTILINE):
            known |= set(names)
    # Attributes of objects, and arguments that are passed on without a name.
    known |= {"server", "username", "id", "logger", "request", "response", "latency"}
    known |= {"transport", "backlog", "server_hostname", "start_serving", "unix"}
    assert names_of("The same") - known <= {"await"}


def test_names_that_are_absent_do_not_exist() -> None:
    absent = {
        name
        for name in names_of("Absent")
        if re.fullmatch(r"(Invalid|Duplicate|Too|Request)\w+|[a-z]+_route|Router", name)
    }
    present = {"InvalidMessage", "InvalidHeader"}
    assert len(absent) > 10
    for name in absent - present:
        assert not hasattr(fastws, name)
        assert not hasattr(fastws.exceptions, name)


def test_every_public_name_of_websockets_is_dealt_with() -> None:
    websockets = pytest.importorskip("websockets")
    dealt_with = set(re.findall(r"\w+", PAGE))
    public = set(websockets.__all__) | set(websockets.exceptions.__all__)
    types = {"Data", "ExtensionName", "ExtensionParameter", "LoggerLike", "StatusLike"}
    own = {"ClientConnection", "ServerConnection", "Server", "Side", "HeadersLike"}
    long = {"HeaderLineTooLong", "StatusLineTooLong", "TooManyHeaders"}
    assert public - dealt_with - types - own - long == {"Protocol"}


def test_every_argument_and_attribute_of_websockets_is_dealt_with() -> None:
    websockets = pytest.importorskip("websockets")
    dealt_with = set(re.findall(r"\w+", PAGE))
    for call in (websockets.connect.__init__, websockets.serve):
        named = set(inspect.signature(call).parameters)
        assert named - dealt_with - {"self", "uri", "kwargs"} == set()
    inner = set(dir(asyncio.Protocol))
    inner |= {"handshake", "process_event", "send_context", "send_data", "drain"}
    inner |= {"start_keepalive", "keepalive", "acknowledge_pings", "close_exc"}
    inner |= {"terminate_pending_pings", "set_connection_exc"}
    for kind in ("ClientConnection", "ServerConnection", "Server"):
        public = {n for n in dir(getattr(websockets, kind)) if not n.startswith("_")}
        assert public - dealt_with - inner == set()
