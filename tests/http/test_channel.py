from __future__ import annotations

import pytest

from twisted.internet.task import Clock

from relay.http.channel import HttpLimits
from tests.http.fakes import Peer, site_of

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"


def test_a_silent_peer_is_closed_after_ten_seconds(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    clock.advance(9.9)
    assert not peer.closed

    clock.advance(0.2)

    assert peer.closed
    assert peer.transport.value() == b""
    peer.hang_up()


def test_one_byte_per_second_does_not_move_the_deadline_of_the_headers(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    for index in range(11):
        if not peer.closed:
            peer.send(GET[index : index + 1])
            clock.advance(1)

    assert peer.closed
    assert peer.answer().status == 408
    peer.hang_up()


def test_whole_header_lines_at_one_per_second_do_not_move_the_deadline_either(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    peer.send(b"GET /healthz HTTP/1.1\r\n")
    for index in range(10):
        peer.send(b"X-%d: y\r\n" % index)
        clock.advance(1)

    assert peer.answer().json["code"] == "request.too_slow"
    peer.hang_up()


def test_one_byte_per_second_does_not_move_the_deadline_of_the_body(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    peer.send(POST + b"Content-Length: 1000\r\n\r\n")
    for _ in range(10):
        peer.send(b"x")
        clock.advance(1)

    assert peer.answer().status == 408
    assert peer.closed
    peer.hang_up()


def test_a_keep_alive_connection_serves_many_requests_and_is_closed_when_idle(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    for _ in range(5):
        assert peer.request("GET", "/healthz").status == 200
        clock.advance(25)
        assert not peer.closed

    clock.advance(5.1)

    assert peer.closed
    peer.hang_up()


def test_a_further_request_on_a_connection_has_ten_seconds_too(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    peer.request("GET", "/healthz")
    clock.advance(20)
    peer.send(b"G")
    clock.advance(9.9)
    assert not peer.closed

    clock.advance(0.2)

    assert peer.answer().status == 408
    peer.hang_up()


def test_pipelined_requests_are_answered_in_turn(clock: Clock) -> None:
    peer = Peer(site_of(clock))

    peer.send(GET * 3)

    assert peer.transport.value().count(b"HTTP/1.1 200 OK") == 3
    peer.hang_up()


def test_a_request_split_into_single_bytes_is_answered_like_a_whole_one(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    for index in range(len(GET)):
        peer.send(GET[index : index + 1])

    assert peer.answer().status == 200
    peer.hang_up()


@pytest.mark.parametrize("size", ["1048577", "20000000", str(2**63), "9" * 5000])
def test_a_body_that_announces_itself_too_large_is_refused_at_once(clock: Clock, size: str) -> None:
    peer = Peer(site_of(clock))

    peer.send(POST + b"Content-Length: %s\r\n\r\n" % size.encode())

    answer = peer.answer()
    assert (answer.status, answer.json["code"]) == (413, "body.too_large")
    assert peer.closed
    peer.hang_up()


def test_a_body_of_exactly_the_limit_is_taken(clock: Clock) -> None:
    peer = Peer(site_of(clock, limits=HttpLimits(body_bytes=1000)))

    answer = peer.request("POST", "/healthz", body=b"x" * 1000)

    assert answer.status == 405
    peer.hang_up()


@pytest.mark.parametrize("chunks", [999, 1100])
def test_a_chunked_body_is_counted(clock: Clock, chunks: int) -> None:
    peer = Peer(site_of(clock, limits=HttpLimits(body_bytes=6 * 1000)))
    peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(chunks):
        if not peer.closed:
            peer.send(b"1\r\nx\r\n")
    if not peer.closed:
        peer.send(b"0\r\n\r\n")

    assert peer.answer().status == (405 if chunks == 999 else 413)
    peer.hang_up()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Content-Length : 5\r\n",
        b"No colon at all\r\n",
    ],
    ids=[
        "negative",
        "plus",
        "hex",
        "two lengths",
        "length and chunked",
        "chunked and length",
        "gzip",
        "space",
        "colon",
    ],
)
def test_a_request_whose_length_is_doubtful_is_refused(clock: Clock, head: bytes) -> None:
    peer = Peer(site_of(clock))

    peer.send(POST + head + b"\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    answer = peer.answer()
    assert (answer.status, answer.json["code"]) == (400, "request.malformed")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert peer.closed
    peer.hang_up()


@pytest.mark.parametrize("line", [b"GET /" + b"a" * 17_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 17_000])
def test_an_endless_line_is_refused(clock: Clock, line: bytes) -> None:
    peer = Peer(site_of(clock))

    peer.send(line)

    assert peer.answer().status == 431
    assert peer.closed
    peer.hang_up()


def test_more_than_sixteen_kilobytes_of_headers_are_refused(clock: Clock) -> None:
    peer = Peer(site_of(clock))

    peer.send(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(20)))

    assert peer.answer().status == 400
    peer.hang_up()


def test_a_peer_that_does_not_read_is_aborted_once_its_bytes_had_time(clock: Clock) -> None:
    peer = Peer(site_of(clock, limits=HttpLimits(stall_s=10.0, stall_rate=1000)))
    peer.request("GET", "/healthz")
    peer.channel.write(b"x" * 5000)
    peer.channel.pauseProducing()
    clock.advance(14.9)
    assert not peer.closed

    clock.advance(0.2)

    assert peer.closed
    peer.hang_up()


def test_a_peer_that_reads_in_time_is_kept(clock: Clock) -> None:
    peer = Peer(site_of(clock))
    peer.request("GET", "/healthz")
    peer.channel.pauseProducing()
    clock.advance(9)
    peer.channel.resumeProducing()

    clock.advance(20)

    assert not peer.closed
    peer.hang_up()


def test_closing_does_not_wait_for_ever_for_a_peer_that_does_not_read(clock: Clock) -> None:
    aborted: list[bool] = []
    peer = Peer(site_of(clock))
    peer.transport.abortConnection = lambda: aborted.append(True)
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert peer.closed

    clock.advance(11)

    assert aborted == [True]
    peer.hang_up()


def test_connections_beyond_the_limit_are_refused_until_one_ends(clock: Clock) -> None:
    site = site_of(clock, limits=HttpLimits(connections=2))
    first, second = Peer(site), Peer(site)
    assert site.buildProtocol(None) is None

    first.hang_up()

    third = Peer(site)
    assert site.buildProtocol(None) is None
    second.hang_up()
    third.hang_up()
    assert site.open == 0
