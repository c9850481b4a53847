"""What ended a push attempt, in one stable word and one sentence for the operator."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure

from relay.errors import DestinationError

try:  # service_identity is a hard dependency; the names moved between its versions
    from service_identity.exceptions import VerificationError
except ImportError:  # pragma: no cover - very old service_identity
    from service_identity import VerificationError

KEY_SAFE = "; the key was not sent"

EARLY_S = 10.0
"""A publish that ends sooner may have been refused: some platforms say no in this way (rtmp.md §5.10)."""

_Code = SSL.X509VerificationCodes
_UNTRUSTED = "the certificate is not signed by a CA we trust (see ca_file)"
WRONG_FINGERPRINT = -1
"""Stands for OpenSSL's number when a certificate is not the one that was asked for."""

_CERTIFICATE_WORDS = {
    WRONG_FINGERPRINT: "the certificate is not the one whose fingerprint is configured; was it renewed?",
    _Code.ERR_CERT_HAS_EXPIRED: "the certificate has expired",
    _Code.ERR_CERT_NOT_YET_VALID: "the certificate is not valid yet; is the clock of this machine right?",
    _Code.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is self-signed (see ca_file)",
    _Code.ERR_SELF_SIGNED_CERT_IN_CHAIN: _UNTRUSTED,
    _Code.ERR_UNABLE_TO_GET_ISSUER_CERT: _UNTRUSTED,
    _Code.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _UNTRUSTED,
    _Code.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _UNTRUSTED,
    _Code.ERR_CERT_SIGNATURE_FAILURE: _UNTRUSTED,
    _Code.ERR_CERT_REVOKED: "the certificate, or one of its CA, was revoked",
    _Code.ERR_UNABLE_TO_GET_CRL: "crl_file has no revocation list of the certificate's CA, or of one above it",
    _Code.ERR_CRL_HAS_EXPIRED: "a revocation list in crl_file has expired; fetch a new one",
    _Code.ERR_CRL_NOT_YET_VALID: "a revocation list in crl_file is not valid yet; is the clock of this machine right?",
    _Code.ERR_CRL_SIGNATURE_FAILURE: "a revocation list in crl_file is not signed by its CA",
}
_TLS_WORDS = {
    "certificate verify failed": "the certificate could not be verified (see ca_file)",
    "wrong version number": "the server does not speak TLS on this port; use rtmp:// or its TLS port",
}


def certificate_words(number: int) -> str:
    """What is wrong with a certificate, by OpenSSL's number."""
    return _CERTIFICATE_WORDS.get(number, f"the certificate could not be verified (OpenSSL error {number})")


def bad_certificate(number: int) -> DestinationError:
    """The end of an attempt whose certificate is not accepted, by OpenSSL's number."""
    return DestinationError("tls", certificate_words(number) + KEY_SAFE)


def wrong_name(failure: Failure) -> bool:
    """Whether a certificate was refused because it is for another host."""
    return isinstance(failure.value, VerificationError)


def classify(failure: Failure, *, phase: str, tls: bool) -> DestinationError:
    """Turn what Twisted or OpenSSL reported into a DestinationError. *phase* is the link's, for the sentence."""
    value = failure.value
    if isinstance(value, DestinationError):
        return value
    if wrong_name(failure):
        return DestinationError("tls", "the certificate is for another host name" + KEY_SAFE)
    if isinstance(value, SSL.Error):
        return DestinationError("tls", _tls_words(value) + (KEY_SAFE if phase == "tls" else f" during {phase}"))
    if isinstance(value, error.DNSLookupError):
        return DestinationError("dns", "the host name does not resolve; check the address and this machine's DNS")
    if isinstance(value, error.ConnectionRefusedError):
        return DestinationError("refused", "nothing listens there, or a firewall refuses; check the port (1935, 443)")
    if isinstance(value, error.TimeoutError | error.TCPTimedOutError | error.NoRouteError | error.ConnectError):
        return DestinationError("unreachable", "no answer; a firewall may block the port, try rtmps on 443")
    if tls and phase == "tls":
        return DestinationError("tls", "the server closed during the TLS handshake" + KEY_SAFE)
    if isinstance(value, error.ConnectionDone):
        return DestinationError("closed", f"the destination closed the connection during {phase}")
    return DestinationError("reset", f"the connection broke during {phase}")


def early_end(error: DestinationError, age_s: float, word: str) -> DestinationError:
    """Say what the end of a publish may mean, *age_s* after it was asked for or accepted; *word* was said before.

    nginx-rtmp and MediaMTX close in answer to a key that they do not like, Twitch accepts it and closes then.
    """
    before = f"; before that, {word}" if word else ""
    if age_s >= EARLY_S:
        return DestinationError(error.reason, error.detail + before)
    detail = f"the destination ended the connection {age_s:.1f} s after the publish"
    return DestinationError("closed-early", f"{detail}; a wrong key looks like this on some platforms{before}")


def _tls_words(value: SSL.Error) -> str:
    reasons = [str(part[-1]) for part in value.args[0]] if value.args and isinstance(value.args[0], list) else []
    for reason in reasons:
        for known, words in _TLS_WORDS.items():
            if known in reason:
                return words
    return "TLS failed: " + ("; ".join(filter(None, reasons)) or "no reason given")
