"""Several dialers behind one: the next is tried before anybody hears of a failure."""

import asyncio
import logging
from typing import Any

import pytest

from fastws.exceptions import DialTimeout, NoUpstream
from fastws.upstream.group import Group


class Fake:
    """A dialer that does what ``outcome`` says."""

    def __init__(self, name: str, outcome: Any = None) -> None:
        self.name = name
        self.outcome = outcome
        self.dialled = 0

    async def dial(self, preface: bytes = b"") -> Any:
        self.dialled += 1
        assert preface == b"hello"
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return f"stream to {self.name}"


def dial(group: Any) -> tuple[Any, Any]:
    return asyncio.run(group.dial(b"hello"))  # type: ignore[no-any-return]


def test_first_that_answers(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Fake("bad:1", NoUpstream("bad:1: connection refused")), Fake("good:2")
    group: Any = Group([bad, good])  # type: ignore[list-item]
    stream, member = dial(group)
    assert stream == "stream to good:2"
    assert member.item is good
    assert [m.active for m in group.balancer.members] == [0, 1]
    (record,) = caplog.records
    expected = "target bad:1: connection refused: rests 10 s"
    assert record.getMessage() == expected
    group.release(member)
    assert member.active == 0


def test_failed_one_is_left_alone_while_it_rests() -> None:
    bad, good = Fake("bad:1", NoUpstream("refused")), Fake("good:2")
    group: Any = Group([bad, good])  # type: ignore[list-item]
    for _ in range(5):
        dial(group)
    assert (bad.dialled, good.dialled) == (1, 5)


def test_rest_ends(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Fake("bad:1", NoUpstream("refused")), Fake("good:2")
    group: Any = Group([bad, good], rest=0.0)  # type: ignore[list-item]
    dial(group)
    bad.outcome = None
    with caplog.at_level(logging.INFO):
        stream, _ = dial(group)
    assert stream == "stream to bad:1"
    assert caplog.messages[-1] == "target bad:1: works again"
    assert group.balancer.members[0].health.failures == 0


def test_one_request_finds_out_whether_a_failed_one_is_back() -> None:
    """Whoever comes meanwhile goes elsewhere, or all would wait for a dead one."""

    class Slow(Fake):
        async def dial(self, preface: bytes = b"") -> Any:
            await asyncio.sleep(0)
            return await super().dial(preface)

    bad, good = Slow("bad:1", NoUpstream("refused")), Fake("good:2")
    group: Any = Group([bad, good])  # type: ignore[list-item]

    async def main() -> None:
        await group.dial(b"hello")
        group.balancer.members[0].health.rests_until = 0.0
        await asyncio.gather(*(group.dial(b"hello") for _ in range(10)))

    asyncio.run(main())
    assert (bad.dialled, good.dialled) == (2, 11)


def test_all_fail_with_the_error_of_the_last() -> None:
    first = Fake("a:1", NoUpstream("a:1: refused"))
    second = Fake("b:2", DialTimeout("b:2: not connected within 5 s"))
    group: Any = Group([first, second])  # type: ignore[list-item]
    with pytest.raises(DialTimeout, match="b:2"):
        dial(group)
    assert [m.active for m in group.balancer.members] == [0, 0]
    assert (first.dialled, second.dialled) == (1, 1)
    with pytest.raises(NoUpstream):  # all rest: they are tried all the same
        second.outcome = NoUpstream("b:2: refused")
        dial(group)
    assert (first.dialled, second.dialled) == (2, 2)


def test_cancelled_dial_counts_no_connection_and_no_failure() -> None:
    group: Any = Group([Fake("a:1", asyncio.CancelledError())])  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        dial(group)
    (member,) = group.balancer.members
    assert (member.active, member.health.failures) == (0, 0)
