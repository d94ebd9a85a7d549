"""Two ends of a pooled WebSocket that keep the rules of docs/pool.md understand each
other, whatever they do in turn and whatever is on its way meanwhile.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from fastws._consts import Side
from fastws.wire.pool import Data, Packet, Reset, Status, encode_packet
from fastws.wire.pool_track import Track


def pass_on(track: Track, encoded: bytes) -> Packet | None:
    return track.receive(encoded[0], encoded[1:])


@settings(max_examples=80)
@given(st.data(), st.booleans())
def test_no_lawful_course_is_a_fault(choices: st.DataObject, is_extended: bool) -> None:
    """Whatever two ends do in turn, with packets on their way, both understand it."""
    client = Track(Side.CLIENT, is_extended=is_extended)
    server = Track(Side.SERVER, is_extended=is_extended)
    on_the_way: dict[Side, list[bytes]] = {Side.CLIENT: [], Side.SERVER: []}
    for _ in range(choices.draw(st.integers(1, 60))):
        track = choices.draw(st.sampled_from([client, server]))
        queue = on_the_way[track.side]
        if queue and choices.draw(st.booleans()):
            if isinstance(pass_on(track, queue.pop(0)), Reset):
                on_the_way[Side(1 - track.side)] += filter(None, [track.reset()])
        else:
            act(choices, track, on_the_way[Side(1 - track.side)])
    settle(client, server, on_the_way)
    if not client.is_broken:
        assert client.is_idle
        assert server.is_idle
        assert client.stream == server.stream


def act(choices: st.DataObject, track: Track, out: list[bytes]) -> None:
    """One thing that this end may say now."""
    said = b""
    if track.is_broken:
        return
    if not track.is_open:
        if track.side is Side.CLIENT and track.is_idle:
            said = track.connect("a", 80)
    elif track.side is Side.SERVER and not track.is_answered:
        said = track.answer(choices.draw(st.sampled_from(Status)))
    elif choices.draw(st.integers(0, 3)) == 0:
        said = track.reset()
    elif not track.eof_sent:
        may_speak = choices.draw(st.booleans())
        packet = encode_packet(Data(memoryview(b"x")), is_extended=track.is_extended)
        said = packet if may_speak else track.close()
    if said:
        out.append(said)


def settle(client: Track, server: Track, on_the_way: dict[Side, list[bytes]]) -> None:
    """Deliver everything and end what is open."""
    for _ in range(4):
        for track in (client, server):
            out = on_the_way[Side(1 - track.side)]
            queue = on_the_way[track.side]
            while queue:
                if isinstance(pass_on(track, queue.pop(0)), Reset):
                    out += filter(None, [track.reset()])
            if track.side is Side.SERVER and track.is_open and not track.is_answered:
                out += filter(None, [track.answer(Status.REFUSED)])
            if track.is_open and not track.eof_sent and not track.is_broken:
                out.append(track.close())
