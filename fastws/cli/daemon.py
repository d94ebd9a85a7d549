"""Going to the background, as soon as everything listens and not before."""

import os
import stat
from collections.abc import Callable

READY = b"+"


def daemonize(run: Callable[[Callable[[], None]], int]) -> int:
    """Run in a process of its own session; come back when it is ready or has failed.

    Until it is ready the new process shares our standard error, so its complaints are
    seen. From then on its standard streams are ``/dev/null``, except an error stream
    that is a file.

    Args:
        run: gets what to call when all is ready; returns the exit status.

    Returns:
        In the first process 0, or the status of a start that failed; in the new one,
        what ``run`` returned.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        is_ready = os.read(reader, 1) == READY
        os.close(reader)
        return 0 if is_ready else status_of(pid)
    os.close(reader)
    os.setsid()

    def ready() -> None:
        detach()
        os.write(writer, READY)
        os.close(writer)

    return run(ready)


def fill(first: int) -> None:
    """Open ``/dev/null`` for the standard streams from ``first`` on that are closed.

    Otherwise a socket or pipe of ours would get such a number, and what is meant for
    the stream with it.
    """
    for number in range(first, 3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)


def detach() -> None:
    """Let go of the terminal: the standard streams become ``/dev/null``."""
    null = os.open(os.devnull, os.O_RDWR)
    keep = stat.S_ISREG(os.fstat(2).st_mode)
    for number in (0, 1) if keep else (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def status_of(pid: int) -> int:
    """The exit status of a child, 1 for one that was killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 1
