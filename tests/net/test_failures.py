from __future__ import annotations

import pytest

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure

from relay.errors import DestinationError
from relay.net.failures import bad_certificate, classify


def reason_of(value: Exception, phase: str = "live", *, tls: bool = False) -> tuple[str, str]:
    found = classify(Failure(value), phase=phase, tls=tls)
    return found.reason, found.detail


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (error.DNSLookupError(), "dns", "does not resolve"),
        (error.ConnectionRefusedError(), "refused", "nothing listens there"),
        (error.TimeoutError(), "unreachable", "firewall"),
        (error.TCPTimedOutError(), "unreachable", "firewall"),
        (error.NoRouteError(), "unreachable", "firewall"),
        (error.ConnectError(), "unreachable", "firewall"),
        (error.ConnectionDone(), "closed", "closed the connection during live"),
        (error.ConnectionLost(), "reset", "broke during live"),
        (error.ConnectionAborted(), "reset", "broke during live"),
        (ValueError("key canary-77 in here"), "reset", "broke during live"),
    ],
)
def test_each_failure_has_a_stable_reason_and_a_sentence(value: Exception, reason: str, words: str) -> None:
    found, detail = reason_of(value)

    assert found == reason
    assert words in detail
    assert "canary" not in detail


def test_what_is_classified_already_stays() -> None:
    stalled = DestinationError("stalled", "took nothing")

    assert classify(Failure(stalled), phase="live", tls=False) is stalled


@pytest.mark.parametrize("value", [error.ConnectionDone(), error.ConnectionLost()])
def test_a_close_during_the_tls_handshake_is_a_matter_of_tls(value: Exception) -> None:
    assert reason_of(value, "tls", tls=True)[0] == "tls"
    assert reason_of(value, "handshake", tls=True)[0] != "tls"


def test_that_the_key_was_not_sent_is_said_only_while_it_is_true() -> None:
    broken = SSL.Error([("SSL routines", "", "bad record mac")])

    assert reason_of(broken, "tls", tls=True) == ("tls", "TLS failed: bad record mac; the key was not sent")
    assert reason_of(broken, "live", tls=True) == ("tls", "TLS failed: bad record mac during live")


@pytest.mark.parametrize("value", [SSL.Error(), SSL.Error([]), SSL.Error([("", "", "")])])
def test_an_error_of_openssl_without_words_is_no_surprise(value: Exception) -> None:
    assert reason_of(value, "tls", tls=True)[1].startswith("TLS failed: no reason given")


def test_a_certificate_that_nobody_has_words_for_is_named_by_number() -> None:
    assert "has expired" in bad_certificate(10).detail
    assert "OpenSSL error 79" in bad_certificate(79).detail
