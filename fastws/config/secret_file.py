"""Values that stand in files named by variables: ``FASTWS_AUTH_TOKEN_FILE``. Pure."""

from typing import Any

import msgspec

from fastws.config.options import Option

NOTHING = "holds no value"
"""What is wrong with a file of blank lines: an option would silently be off."""


class SecretFile(msgspec.Struct, frozen=True):
    """Where an option's value came from, to be read again while a mode runs.

    Attributes:
        option: whose value it is.
        variable: what named the file.
        path: of the file.
    """

    option: Option
    variable: str
    path: str

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"{self.variable} {self.path}"

    def parse(self, text: str) -> Any:
        """Contents to value: one a line for an option that may be repeated.

        Raises:
            ValueError: nothing there, or no such value; the text never repeats it.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise ValueError(NOTHING)
        parse = self.option.kind.parse
        return tuple(map(parse, lines)) if self.option.many else parse(text)
