"""Rows of the table of options about the end of a process and its log. Pure."""

from collections.abc import Sequence

from fastws.config.kinds import TIME, Kind, Row, choice, parse_count

RUN = "Start, stop and log"

RUN_ROWS: Sequence[Row] = (
    Row(
        flag="--drain-delay",
        kind=TIME,
        group=RUN,
        help="from the signal to the end of accepting",
    ),
    Row(
        flag="--drain-timeout",
        kind=TIME,
        group=RUN,
        help="for open connections after that",
    ),
    Row(
        flag="--log-level",
        kind=choice("LEVEL", "debug", "info", "warning", "error"),
        group=RUN,
        help="debug, info, warning or error; warning for - and inetd:",
        default="info",
    ),
    Row(
        flag="--log-format",
        kind=choice("human|json", "human", "json"),
        group=RUN,
        help="of log lines",
        default="human",
    ),
    Row(
        flag="--log-limit",
        kind=Kind("COUNT", parse_count, str),
        group=RUN,
        help="lines a minute for warnings of one kind, more are counted; 0 for all",
        off=True,
        default=20,
    ),
)
