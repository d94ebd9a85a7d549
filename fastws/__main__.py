"""``python -m fastws``."""

from fastws.cli.main import main

if __name__ == "__main__":
    main()
