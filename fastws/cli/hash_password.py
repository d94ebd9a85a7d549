"""``fastws hash-password [USER]``: a line for the users file of ``--auth-basic``."""

import os
import sys

import click

from fastws.http.password import SALT_SIZE, hash_password

_HELP = """\
Hash a password for the users file of wts --auth-basic or proxy --users.

Asks for it on a terminal; otherwise the first line of standard input is taken. With
USER the whole line of the file is printed.

\b
  fastws hash-password anna >> users
  fastws wts :8080 127.0.0.1:22 --auth-basic users
  fastws proxy :1080 --users users
"""


@click.command(
    "hash-password",
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.argument("user", metavar="[USER]", required=False)
def hash_password_command(user: str | None) -> None:
    """Print the hash, or with a user the whole line."""
    if user is not None and not _is_user(user):
        raise click.BadParameter(
            f"{user!r} cannot be a user name: no colon in it, no # or space before it,"
            " no space after it"
        )
    if sys.stdin is None:  # closed
        password = ""
    elif sys.stdin.isatty():
        password = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("no password came on standard input")
    line = hash_password(password, os.urandom(SALT_SIZE))
    click.echo(line if user is None else f"{user}:{line}")


def _is_user(name: str) -> bool:
    """Whether a line of the users file that begins with ``name`` is read as meant."""
    is_whole = name == name.strip() and not name.startswith("#")
    return bool(name) and is_whole and ":" not in name and name.isprintable()
