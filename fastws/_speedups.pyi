# The typed face of the compiled twin: exactly that of the pure one, which specifies
# it. tests/parity compares the two at run time, name by name.

from fastws._consts import FrameHeader as FrameHeader
from fastws._copyloop_py import CopyEnd as CopyEnd
from fastws._copyloop_py import Scratch as Scratch
from fastws._messages_py import MessageEnd as MessageEnd
from fastws._messages_py import MessagePool as MessagePool
from fastws._speedups_py import BinaryMut as BinaryMut
from fastws._speedups_py import FrameDecoder as FrameDecoder
from fastws._speedups_py import MaskKeys as MaskKeys
from fastws._speedups_py import Utf8Validator as Utf8Validator
from fastws._speedups_py import apply_mask as apply_mask
from fastws._speedups_py import decode_header as decode_header
from fastws._speedups_py import default_keys as default_keys
from fastws._speedups_py import encode_frame as encode_frame
from fastws._speedups_py import write_header as write_header

__all__: tuple[str, ...]
