"""The handshake, plain and with digests, on both sides, and how anything else on the port is refused."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.handshake import ClientHandshake, ServerHandshake, answer_digest, embed_digest, find_digest
from relay.rtmp.sniff import Protocol, sniff
from relay.secret import redact_urls

CORPUS = Path(__file__).parents[1] / "corpus"
FFMPEG_C1 = (CORPUS / "ffmpeg_c1_publish.bin").read_bytes()[-1536:]
CLIENT, SERVER = b"Genuine Adobe Flash Player 001", b"Genuine Adobe Flash Media Server 001"
TAIL = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
KAT_C1 = bytes.fromhex("0000000080000702") + bytes((i * 7 + 3) & 255 for i in range(1528))
PLAIN_C1 = bytes(8) + bytes(i % 253 for i in range(1528))


def random_source() -> Callable[[int], bytes]:
    """Bytes that are different at every call and the same in every test."""
    calls: Iterator[int] = count()
    return lambda size: hashlib.shake_128(bytes((next(calls),))).digest(size)


def serve(pieces: list[bytes]) -> tuple[bytes, ServerHandshake]:
    server = ServerHandshake(random_source())
    return b"".join(server.receive(piece) for piece in pieces), server


def refusal_of(data: bytes, *, byte_by_byte: bool = False) -> RemoteProtocolError:
    pieces = [data[i : i + 1] for i in range(len(data))] if byte_by_byte else [data]
    with pytest.raises(RemoteProtocolError) as caught:
        serve(pieces)
    return caught.value


def test_a_plain_client_gets_version_zero_and_its_own_bytes_back() -> None:
    answer, server = serve([b"\x03" + PLAIN_C1])

    assert len(answer) == 3073
    assert answer[0] == 3
    assert answer[5:9] == bytes(4)
    assert answer[1537:] == PLAIN_C1
    assert not server.done
    assert not server.digest


def test_the_answer_comes_in_one_piece_when_c1_is_complete_and_not_before() -> None:
    server = ServerHandshake(random_source())

    assert server.receive(b"\x03" + PLAIN_C1[:-1]) == b""
    assert len(server.receive(PLAIN_C1[-1:])) == 3073


@pytest.mark.parametrize("tail", [b"", b"\x02", b"\x02\x00\x00\x00rest"])
@pytest.mark.parametrize("c1", [PLAIN_C1, FFMPEG_C1])
def test_whole_and_byte_by_byte_give_the_same(c1: bytes, tail: bytes) -> None:
    wire = b"\x03" + c1 + bytes(1536) + tail

    whole, server = serve([wire])
    assert server.done
    assert server.leftover == tail

    bits, server = serve([wire[i : i + 1] for i in range(3073)])
    assert bits == whole
    assert server.done
    assert server.leftover == b""
    with pytest.raises(LocalProtocolError):
        server.receive(b"more")


@pytest.mark.parametrize("name", ["cap_h264aac", "cap_hevcopus", "cap_128", "cap_extts"])
def test_recorded_clients_get_through(name: str) -> None:
    wire = (CORPUS / f"{name}.c2s.bin").read_bytes()

    answer, server = serve([wire])

    assert len(answer) == 3073
    assert server.done
    assert server.leftover == wire[3073:]


def test_c2_may_be_anything_but_is_compared() -> None:
    server = ServerHandshake(random_source())
    s1 = server.receive(b"\x03" + PLAIN_C1)[1:1537]
    server.receive(s1)
    assert server.done
    assert server.c2_echoed

    _, other = serve([b"\x03" + PLAIN_C1 + b"\xaa" * 1536])
    assert other.done
    assert not other.c2_echoed


def test_ffmpegs_c1_holds_the_known_digest() -> None:
    assert hashlib.sha256(FFMPEG_C1).hexdigest().startswith("50c8f966513a733e")

    found = find_digest(FFMPEG_C1, CLIENT)

    assert found is not None
    assert found.base == 8
    assert found.value.hex() == "650bfb9b65f953d848e3456965d0d76b627a84e35e9ddabd8b43f0fadaee458c"
    assert FFMPEG_C1[494:526] == found.value


@pytest.mark.parametrize(
    ("base", "offset", "digest", "s2_tail"),
    [
        (
            8,
            66,
            "57558039f689da2cd14bff731a86b6af64501620e140ff7d2265d3260626b728",
            "c10a44f8b694d98cde4993863909873ed8720870b7fa9b7f8278b90bca1421cf",
        ),
        (
            772,
            1014,
            "ee57cd4468042a4a1d0356c6fa2a54e53deff6e11afca7fc1e8b559bf25ec48e",
            "e182b3d3d10564e00ac6a6b444075f0300385eddc9fec1fb24509b69dfaeb355",
        ),
    ],
)
def test_known_answers_of_both_layouts(base: int, offset: int, digest: str, s2_tail: str) -> None:
    signed = embed_digest(KAT_C1, CLIENT, base)
    s2 = answer_digest(bytes((i * 5 + 1) & 255 for i in range(1504)), SERVER + TAIL, bytes.fromhex(digest))

    assert signed[offset : offset + 32].hex() == digest
    assert find_digest(signed, CLIENT) == (base, bytes.fromhex(digest))
    assert s2[1504:].hex() == s2_tail


@pytest.mark.parametrize("base", [8, 772])
def test_a_digest_client_gets_a_digest_of_the_same_layout(base: int) -> None:
    c1 = embed_digest(KAT_C1, CLIENT, base)

    answer, server = serve([b"\x03" + c1])

    s1, s2 = answer[1:1537], answer[1537:]
    assert server.digest
    assert s1[4] >= 3
    found = find_digest(s1, SERVER)
    assert found is not None
    assert found.base == base
    c1_digest = find_digest(c1, CLIENT)
    assert c1_digest is not None
    key = hmac.digest(SERVER + TAIL, c1_digest.value, "sha256")
    assert s2[1504:] == hmac.digest(key, s2[:1504], "sha256")


def test_a_digest_that_does_not_validate_means_a_plain_answer() -> None:
    signed = embed_digest(KAT_C1, CLIENT, 8)
    spoiled = signed[:-1] + bytes((signed[-1] ^ 1,))

    for c1 in (KAT_C1, spoiled, KAT_C1[:8] + b"\xff" * 1528):
        answer, server = serve([b"\x03" + c1])
        assert not server.digest
        assert answer[5:9] == bytes(4)
        assert answer[1537:] == c1


def test_a_digest_is_not_looked_for_when_the_version_is_zero() -> None:
    c1 = embed_digest(bytes(8) + KAT_C1[8:], CLIENT, 8)

    _, server = serve([b"\x03" + c1])

    assert not server.digest


@given(st.binary(min_size=1536, max_size=1536), st.sampled_from([8, 772]))
@settings(max_examples=40, deadline=None)
def test_a_digest_is_found_wherever_it_is(block: bytes, base: int) -> None:
    found = find_digest(embed_digest(block, CLIENT, base), CLIENT)

    assert found is not None


@given(st.binary(max_size=3200), st.integers(0, 3200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_end_decided_and_the_same_for_any_split(data: bytes, cut: int) -> None:
    def outcome(pieces: list[bytes]) -> tuple[bytes, bool] | str:
        server = ServerHandshake(random_source())
        answer = b""
        try:
            for piece in pieces:
                if not server.done:
                    answer += server.receive(piece)
        except RemoteProtocolError as error:
            return error.code
        return answer, server.done

    for wire in (data, b"\x03" + data):
        assert outcome([wire]) == outcome([wire[:cut], wire[cut:]])


@pytest.mark.parametrize("digest", [False, True])
def test_client_and_server_agree(digest: bool) -> None:
    client, server = ClientHandshake(random_source(), digest=digest), ServerHandshake(random_source())

    reply = server.receive(client.start())
    server.receive(client.receive(reply + b"tail"))

    assert client.done
    assert server.done
    assert client.digest is server.digest is digest
    assert client.leftover == b"tail"
    assert server.c2_echoed is not digest


def test_a_client_sends_c2_before_s2_is_there() -> None:
    client, server = ClientHandshake(random_source()), ServerHandshake(random_source())
    reply = server.receive(client.start())

    c2 = client.receive(reply[:1537])
    assert c2 == reply[1:1537]
    assert not client.done

    assert client.receive(reply[1537:]) == b""
    assert client.done


def test_a_digest_client_signs_c2_with_the_servers_digest() -> None:
    client, server = ClientHandshake(random_source(), digest=True), ServerHandshake(random_source())
    reply = server.receive(client.start())

    c2 = client.receive(reply)

    s1_digest = find_digest(reply[1:1537], SERVER)
    assert s1_digest is not None
    key = hmac.digest(CLIENT + TAIL, s1_digest.value, "sha256")
    assert c2[1504:] == hmac.digest(key, c2[:1504], "sha256")


def test_a_digest_client_falls_back_when_the_server_is_plain() -> None:
    client = ClientHandshake(random_source(), digest=True)
    client.start()

    assert client.receive(b"\x03" + PLAIN_C1) == PLAIN_C1
    assert not client.digest


@pytest.mark.parametrize(
    ("reply", "code"),
    [(b"HTTP/1.1 400", "hs.http_on_rtmp"), (b"\x15\x03\x01\x00\x02", "hs.tls_on_rtmp"), (b"\x04", "hs.version")],
)
def test_a_client_names_what_answered_instead_of_rtmp(reply: bytes, code: str) -> None:
    client = ClientHandshake(random_source())
    client.start()

    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(reply)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00", "hs.version"),
        (b"\x02", "hs.version"),
        (b"\x04", "hs.version"),
        (b"\x1f", "hs.version"),
        (b"\xff", "hs.version"),
        (b"SSH-2.0-x", "hs.version"),
        (b"\x06", "hs.rtmpe_unsupported"),
        (b"\x08", "hs.rtmpe_unsupported"),
        (b"\x09", "hs.rtmpe_unsupported"),
        (b"\x16\x03\x01\x02\x00\x01", "hs.tls_on_rtmp"),
        (b"\x16\x02", "hs.version"),
        (b"GET / HTTP/1.1\r\n\r\n", "hs.http_on_rtmp"),
        (b"HEAD / HTTP/1.0\r\n", "hs.http_on_rtmp"),
        (b"OPTIONS * HTTP/1.1", "hs.http_on_rtmp"),
        (b"POST /login HTTP/1.1\r\n", "hs.http_on_rtmp"),
        (b"POST /open/1 HTTP/1.1\r\n", "hs.rtmpt_unsupported"),
        (b"POST /fcs/ident2 HTTP/1.1\r\n", "hs.rtmpt_unsupported"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "hs.proxy"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11", "hs.proxy"),
        (b"\r\n\r\nx", "hs.version"),
    ],
)
def test_another_protocol_is_named_whole_and_byte_by_byte(data: bytes, code: str) -> None:
    assert refusal_of(data).code == code
    assert refusal_of(data, byte_by_byte=True).code == code


@pytest.mark.parametrize("data", [b"\x06", b"POST /open/1", b"GET / HTTP/1.1", b"\x16\x03\x01", b"PROXY TCP4", b"\xff"])
def test_the_log_shows_all_of_what_a_refusal_says(data: bytes) -> None:
    said = str(refusal_of(data))

    assert redact_urls(said) == said


def test_an_http_client_is_told_what_this_is() -> None:
    answer = refusal_of(b"GET / HTTP/1.1\r\n").answer
    head, body = answer.split(b"\r\n\r\n", 1)

    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert refusal_of(b"\x16\x03\x01").answer == b""


@pytest.mark.parametrize("data", [b"", b"G", b"P", b"PO", b"POST /ope", b"PROX", b"\x16", b"\r\n\r\n\x00"])
def test_the_first_bytes_of_something_known_are_waited_for(data: bytes) -> None:
    assert sniff(data) is None
    assert ServerHandshake(random_source()).receive(data) == b""


def test_rtmp_is_known_by_its_first_byte() -> None:
    assert sniff(b"\x03") is Protocol.RTMP
