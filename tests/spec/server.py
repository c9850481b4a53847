"""The server under test for the socket runners: a relay of ours with a witness, or any other RTMP server.

`RTMP_SPEC_TARGET=host:port` runs the same cases against a server that is already there and that takes the publish name
as the play name (nginx-rtmp does); then nothing is known of its log and its memory.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

from tests.integration.harness import Relay, wait_for
from tests.spec import dialogue, wire
from tests.spec.model import Case, Outcome, Phase, Wait, verdict
from tests.spec.peer import Address, SocketLink, Viewer, Witness, source_address

FOREIGN = os.environ.get("RTMP_SPEC_TARGET", "")
WITNESS_KEY = "spec-publish-key-wtns"
WITNESS_STREAM = "spec-public-name-wtns"
LATE_S = 0.5
"""No case may hold up a good stream for longer; on a quiet machine it is a few milliseconds."""
SLACK = 24 * 1024 * 1024
"""What allocator and interpreter may keep on top of a case's own bound."""

CONFIG = """
[limits]
handshake_s = 2
command_s = 4
publish_idle_s = 3
"""


def key_of(index: int) -> str:
    """The publish key of one run of one case."""
    return f"spec-publish-key-{index:04}"


def stream_of(index: int) -> str:
    """The stream that this key feeds; other servers play what was published."""
    return key_of(index) if FOREIGN else f"spec-public-name-{index:04}"


@dataclass
class Server:
    """Where cases are played out."""

    address: Address
    relay: Relay | None
    witness: Witness
    used: int = 0

    def next_index(self) -> int:
        """A number that no case used before."""
        self.used += 1
        return self.used

    def lines_about(self, source: str) -> list[dict[str, object]]:
        """Lines of the log with a reason code about this peer."""
        if self.relay is None:
            return []
        return [line for line in self.relay.log() if source in map(str, line.values()) and line.get("code")]


def play_out(server: Server, case: Case, size: int = 0) -> str:
    """Run *case* over a socket. Return everything that is wrong, or nothing."""
    case = case.but(send=case.pieces())  # made before the conversation: an encoder that ponders is idle
    index = server.next_index()
    key, stream = key_of(index), stream_of(index)
    link = SocketLink(server.address, source_address(index))
    viewer = None
    before = server.relay.memory() if server.relay else 0
    if server.relay:
        server.relay.reset_peak()
    try:
        if _wants_witness(case):
            stream = WITNESS_KEY if FOREIGN else WITNESS_STREAM
        dialogue.reach(link, case.after, key=key, stream=stream)
        if case.after is Phase.LIVE:
            viewer = Viewer(server.address, stream)
            seen = FOREIGN or viewer.wait_for(wire.picture(b"opening", key=True))
            assert seen, "the first keyframe never reached a player"
        reply = _say(link, case, size, key, stream)
        problem = _continue(link, case, key)
        outcome = Outcome(link.closed, "", link.errors(), problem)
        if outcome.closed:
            outcome.code = _code(server, link.source)
        faults = [verdict(case.expect, outcome, codes_known=server.relay is not None)]
        media = 8192 if case.after is Phase.PLAY else 0
        if not outcome.closed and not problem:
            faults += _check_media(server, case, viewer, stream)
            faults += [f"answered {reply} bytes" for _ in [0] if reply > case.max_reply + media]
        faults += _check_server(server, case, outcome, link.source, before)
        return "; ".join(fault for fault in faults if fault)
    finally:
        link.close()
        if viewer is not None:
            viewer.close()


def _wants_witness(case: Case) -> bool:
    """Whether the case plays a stream that somebody else publishes."""
    sent = b"".join(piece for piece in case.pieces() if isinstance(piece, bytes))
    plays = wire.STREAM.encode() in sent and wire.KEY.encode() not in sent
    return case.after is Phase.PLAY or (plays and case.after < Phase.PUBLISH)


def _say(link: SocketLink, case: Case, size: int, key: str, stream: str) -> int:
    """Send the pieces; return how many bytes the server had to say to that."""
    link.rest(0.002)
    before = link.ear.total
    for piece in case.pieces():
        if isinstance(piece, Wait):
            link.rest(piece.seconds)
        else:
            link.send(
                piece.replace(wire.KEY.encode(), key.encode()).replace(wire.STREAM.encode(), stream.encode()), size
            )
    return link.ear.total - before


def _continue(link: SocketLink, case: Case, key: str) -> str:
    """Go on if that is allowed, otherwise wait for the end."""
    if not case.expect.continues:
        link.wait_closed(case.seconds)
        return ""
    link.patience = case.seconds
    leaves = case.after if case.leaves is None else case.leaves
    return dialogue.follow_up(link, leaves, case.chunk_size, key=key)


def _code(server: Server, source: str) -> str:
    if server.relay is None:
        return ""
    try:
        return str(wait_for(lambda: server.lines_about(source), "log line", 2)[0]["code"])
    except AssertionError:
        return ""


def _check_media(server: Server, case: Case, viewer: Viewer | None, stream: str) -> list[str]:
    if Phase.PLAY in (case.after, case.leaves):
        return []
    watching = viewer
    if FOREIGN and (viewer is None or case.leaves is Phase.CONNECT):
        return []  # other servers keep no group of pictures for whoever comes late
    if watching is None or case.leaves is Phase.CONNECT:
        watching = Viewer(server.address, stream)
    try:
        if not watching.wait_for(dialogue.last_picture):
            return ["the last picture did not reach a player"]
        if not watching.wait_for(dialogue.last_sound):
            return ["the last sound did not reach a player"]
        media = list(watching.media)
    finally:
        if watching is not viewer:
            watching.close()
    bodies = [body for _, _, body in media]
    wanted = tuple((kind, None, body) for kind, _, body in case.delivers) if viewer is not None else ()
    faults = [dialogue.missing_in_order(wanted, media)]
    faults += [f"{body[:12].hex()} came out" for body in (*case.never, *case.never_played) if body in bodies]
    faults += [f"{body[:12].hex()} came {bodies.count(body)} times" for body in case.once if bodies.count(body) > 1]
    data = sum(kind == wire.DATA for kind, _, _ in media)
    if case.most_data is not None and data > case.most_data:
        faults.append(f"{data} data messages came out")
    return [*faults, *_check_times(media, case.max_step)]


def _check_times(media: list[tuple[int, int, bytes]], max_step: int | None) -> list[str]:
    """Times of each kind must rise; headers carry the time of what follows, so they are left out."""
    faults = []
    for kind in (wire.AUDIO, wire.VIDEO):
        times = [time for have, time, body in media if have == kind and _is_frame(body)]
        steps = [(after - before + 2**31) % 2**32 - 2**31 for before, after in itertools.pairwise(times)]
        if any(step <= 0 for step in steps):
            faults.append(f"type {kind}: time steps {min(steps)} ms")
        if max_step is not None and any(step > max_step for step in steps):
            faults.append(f"type {kind}: a hole of {max(steps)} ms")
    return faults


def _is_frame(body: bytes) -> bool:
    """A picture of H.264 or a frame of AAC; with other things the same time may come twice."""
    return body[:2] in (b"\x17\x01", b"\x27\x01", b"\xaf\x01")


def _check_server(server: Server, case: Case, outcome: Outcome, source: str, before: int) -> list[str]:
    faults = [server.witness.check()]
    late, server.witness.late_by = server.witness.late_by, 0.0
    if late > LATE_S:
        faults.append(f"a picture of the good publisher came {late * 1000:.0f} ms late")
    if server.relay is None:
        return faults
    lines = server.lines_about(source)
    if outcome.closed and len(lines) > 1:
        faults.append(f"{len(lines)} log lines with a code for one connection: {[line['code'] for line in lines]}")
    grown = server.relay.memory_peak() - before
    if grown > case.memory + SLACK:
        faults.append(f"the process grew by {grown // 1024} KiB")
    return faults
