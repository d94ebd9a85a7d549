"""What ``fastws websockify`` makes of its command line."""

import os
from pathlib import Path

import pytest

from fastws.cli.websockify import keep_private


@pytest.mark.parametrize("has_memfd", [True, False], ids=["memfd", "file"])
def test_keep_private_leaves_no_name(
    has_memfd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memfd_create")
    path = keep_private(b"anna:hash\n")
    number = int(path.rpartition("/")[2])
    try:
        assert os.pread(number, 100, 0) == b"anna:hash\n"
        assert list(tmp_path.iterdir()) == []
        if not has_memfd:
            assert os.fstat(number).st_mode & 0o777 == 0o600
    finally:
        os.close(number)
