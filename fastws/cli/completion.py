"""What a shell offers for the value of an option."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete(metavar: str, incomplete: str) -> "list[CompletionItem]":
    """What may stand for ``metavar``, such as ``FILE``, ``DIR`` or ``v1|v2``."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 (only for shells)

    if metavar in ("FILE", "DIR"):
        return [CompletionItem(incomplete, type=metavar.lower())]
    words = metavar.split("|") if "|" in metavar else ()
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
