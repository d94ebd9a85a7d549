"""Every input that a fuzzing run kept still passes; atheris is not needed for that."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", ["frames", "handshake", "deflate"])
def test_kept_inputs_pass(twins: tuple[ModuleType, ModuleType], target: str) -> None:
    """What broke a target once is among them."""
    module = importlib.import_module(f"tests.fuzz.{target}")
    paths = sorted((CORPUS / target).iterdir())
    assert len(paths) >= 20
    for path in paths:
        try:
            module.run(path.read_bytes())
        except Exception as error:
            pytest.fail(f"{path.name}: {type(error).__name__}: {error}")
