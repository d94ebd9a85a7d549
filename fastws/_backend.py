"""Chooses between the compiled and the pure twin, once; nobody else imports a twin.

``FASTWS_PURE=1`` selects the pure twin, ``FASTWS_REQUIRE_SPEEDUPS=1`` makes a missing
extension an ``ImportError``. Without either the compiled twin is used where it exists.
Type checkers always see the pure twin: it is the specification.
"""

import os
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

from fastws import _copyloop_py, _messages_py, _speedups_py, _unpack_py
from fastws._consts import FrameHeader, Side

try:
    from fastws import _speedups
except ImportError as error:
    _compiled: ModuleType | None = None
    _missing = str(error)
else:
    _compiled = _speedups
    _missing = ""

__all__ = (
    "BACKEND",
    "BinaryMut",
    "CopyEnd",
    "FrameDecoder",
    "FrameHeader",
    "MaskKeys",
    "MessageEnd",
    "MessagePool",
    "Scratch",
    "Side",
    "Unpacker",
    "Utf8Validator",
    "apply_mask",
    "decode_header",
    "default_keys",
    "encode_frame",
    "load",
    "write_header",
)

BackendName = Literal["python", "cython"]

_pure = ModuleType("fastws.pure_twin", "The pure twin as one namespace.")
for _name in _speedups_py.__all__:
    setattr(_pure, _name, getattr(_speedups_py, _name))
_pure.CopyEnd = _copyloop_py.CopyEnd  # type: ignore[attr-defined]
_pure.Scratch = _copyloop_py.Scratch  # type: ignore[attr-defined]
_pure.MessageEnd = _messages_py.MessageEnd  # type: ignore[attr-defined]
_pure.MessagePool = _messages_py.MessagePool  # type: ignore[attr-defined]
_pure.Unpacker = _unpack_py.Unpacker  # type: ignore[attr-defined]


def load(name: BackendName) -> ModuleType:
    """The twin with this name as one namespace, whichever this process uses itself.

    Raises:
        ImportError: the compiled twin cannot be imported.
        ValueError: there is no such twin.
    """
    if name == "python":
        return _pure
    if name != "cython":
        raise ValueError(f"no twin is called {name!r}: use 'python' or 'cython'")
    if _compiled is None:
        raise ImportError(
            f"the extension fastws._speedups cannot be imported ({_missing}); build it "
            "with 'python setup.py build_ext --inplace'"
        )
    return _compiled


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def _choose() -> BackendName:
    required = _is_set("FASTWS_REQUIRE_SPEEDUPS")
    if required:
        load("cython")
    if _is_set("FASTWS_PURE") or _compiled is None:
        return "python"
    return "cython"


BACKEND: Final[BackendName] = _choose()

if TYPE_CHECKING:
    from fastws._copyloop_py import CopyEnd, Scratch
    from fastws._messages_py import MessageEnd, MessagePool
    from fastws._speedups_py import (
        BinaryMut,
        FrameDecoder,
        MaskKeys,
        Utf8Validator,
        apply_mask,
        decode_header,
        default_keys,
        encode_frame,
        write_header,
    )
    from fastws._unpack_py import Unpacker
else:
    _twin = load(BACKEND)
    BinaryMut = _twin.BinaryMut
    CopyEnd = _twin.CopyEnd
    FrameDecoder = _twin.FrameDecoder
    MaskKeys = _twin.MaskKeys
    MessageEnd = _twin.MessageEnd
    MessagePool = _twin.MessagePool
    Scratch = _twin.Scratch
    Unpacker = _twin.Unpacker
    Utf8Validator = _twin.Utf8Validator
    apply_mask = _twin.apply_mask
    decode_header = _twin.decode_header
    default_keys = _twin.default_keys
    encode_frame = _twin.encode_frame
    write_header = _twin.write_header
