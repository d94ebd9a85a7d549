"""The program of docs/howto/callbacks.md runs and prints what it should."""

import re
import sys

from tests.support.programs import ROOT, run


def test_example_runs() -> None:
    text = (ROOT / "docs" / "howto" / "callbacks.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    said = run(sys.executable, "-c", program).decode().splitlines()
    assert sorted(said) == ["client: hello", "server: 1000 enough"]
