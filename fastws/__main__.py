"""``python -m fastws`` and the ``fastws`` script."""

import gc

gc.disable()  # what modules make stays: no use in searching it for garbage

from fastws.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
