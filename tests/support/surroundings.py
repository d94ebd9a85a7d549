"""What the environment of whoever runs the tests must not change about them."""

import os
import re
import tempfile

_OURS = "PURE|LOOP|REQUIRE_SPEEDUPS|TEST_TIME_SCALE|SOAK_SEED|SOAK_SECONDS"
_FOREIGN = re.compile(rf"FASTWS_(?!(?:{_OURS})$)|COLUMNS$|(?i:\w+_proxy)$")
_SHORT = "/tmp"
_LONGEST = 20  # characters; pytest and a socket's name add 85, and 107 is the limit


def forget_surroundings() -> None:
    """Drop proxies, options of fastws, a width of lines and a long TMPDIR.

    Clients that tests compare with would go through a proxy of the environment, and
    the paths of Unix sockets lie in the directory for temporary files.
    """
    for name in [name for name in os.environ if _FOREIGN.match(name)]:
        del os.environ[name]
    if len(tempfile.gettempdir()) > _LONGEST and os.access(_SHORT, os.W_OK):
        os.environ["TMPDIR"] = tempfile.tempdir = _SHORT
