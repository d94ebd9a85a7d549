"""Variables that look like an option's, and are none."""

import pytest

from fastws.cli.variables import misspelt


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FASTWS_AUTH_TOKENS", "FASTWS_AUTH_TOKEN"),
        ("FASTWS_PING_DEADLIN", "FASTWS_PING_DEADLINE"),
        ("FASTWS_BEARER_FIL", "FASTWS_BEARER_FILE"),
        ("FASTWS_PRUE", "FASTWS_PURE"),
        ("FASTWS_PLAIN-TOO", "FASTWS_PLAIN_TOO"),
    ],
)
def test_misspelt_variable_is_named_with_the_right_one(name: str, meant: str) -> None:
    said = list(misspelt(["PATH", name, "FASTWS_PING"]))
    assert said == [f"{name}: no option reads this; {meant} is one"]


@pytest.mark.parametrize(
    "name",
    [
        "FASTWS_AUTH_TOKEN",
        "FASTWS_BEARER_FILE",
        "FASTWS_LOOP",
        "FASTWS_TEST_TIME_SCALE",
        "FASTWS_PORT_8080_TCP",
        "FASTWS_SERVICE_HOST",
        "FASTWS_",
        "AUTH_TOKENS",
        "_FASTWS_COMPLETE",
    ],
)
def test_other_variables_say_nothing(name: str) -> None:
    assert list(misspelt([name])) == []
