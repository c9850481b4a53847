"""What a check of a destination can come to: a table of code, what is the matter, what to do.

The rule it guards: each verdict is a sentence that an operator understands, and says what to do next. No other module
words a verdict. Names in braces are filled in from what the check found; none of them ever holds a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.net.failures import WRONG_FINGERPRINT


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row. *says* names the matter, *do* what to do about it; *good* ends the check with exit code 0."""

    says: str
    do: str
    good: bool = False


_KEY = "Copy the stream key again, whole and without spaces, from the page of this event"
_CLOCK = "Compare the clock of this machine with the real time"

VERDICTS: Mapping[str, Verdict] = {
    # Good.
    "good": Verdict(
        "{title} took {accepted:.1f} of {offered:.1f} Mbit/s for {seconds:.0f} s.", "Nothing. Go on.", good=True
    ),
    "reachable": Verdict(
        "{title} answers as an RTMP server and takes the app. The key was not sent, and no stream.",
        "Run it again with the key and without --no-publish, to try key and upload too.",
        good=True,
    ),
    # The way there.
    "dns": Verdict(
        "The name {host} has no address.",
        "Compare it with the address that the platform gives, letter by letter. If it is right, this machine's DNS is"
        " at fault: try `getent hosts {host}`.",
    ),
    "dns-silent": Verdict(
        "This machine's DNS does not answer.", "Look at the network of this machine, and at /etc/resolv.conf."
    ),
    "refused": Verdict(
        "{host} refuses connections to port {port}: nothing listens there, or a firewall says no.",
        "Compare the port with the address that the platform gives; 1935 is usual for rtmp, 443 for rtmps.{other}",
    ),
    "unreachable": Verdict(
        "No answer from {host} on port {port} within {step:.0f} s: a firewall drops it, or the server is down.",
        "Have outgoing TCP port {port} opened, or use rtmps:// on port 443, which is seldom blocked.{other}",
    ),
    # TLS.
    "tls-expired": Verdict(
        "The certificate of {host} has expired; the key was not sent.",
        "Tell whoever runs {host} to renew it. " + _CLOCK + ", too.",
    ),
    "tls-early": Verdict("The certificate of {host} is not valid yet; the key was not sent.", _CLOCK + "."),
    "tls-wrong-host": Verdict(
        "The certificate that {host} shows is for another name; the key was not sent.",
        "Use the name that stands in the certificate, not an IP address. If the name is right, somebody is in between.",
    ),
    "tls-self-signed": Verdict(
        "The certificate of {host} is signed by itself; the key was not sent.",
        "For a server of your own write ca_file or fingerprint; for a public platform, somebody is in between.",
    ),
    "tls-untrusted": Verdict(
        "The certificate of {host} is signed by nobody we trust; the key was not sent.",
        "For a server of your own write ca_file or fingerprint; for a public platform, somebody is in between.",
    ),
    "tls-fingerprint": Verdict(
        "The certificate of {host} is not the one whose fingerprint is configured; the key was not sent.",
        "Ask whoever runs {host} whether it was renewed, then write the new fingerprint.",
    ),
    "tls-revoked": Verdict(
        "The certificate of {host} was revoked; the key was not sent.", "Do not use it. Ask whoever runs {host}."
    ),
    "tls-crl": Verdict(
        "What the CAs of {host} have revoked is not known; the key was not sent.",
        "Put a current revocation list of every CA on the way to the root into crl_file.",
    ),
    "tls-certificate": Verdict(
        "The certificate of {host} cannot be verified; the key was not sent. {said}", "Ask whoever runs {host}."
    ),
    "tls-not-spoken": Verdict(
        "{host} does not speak TLS on port {port}.",
        "Write rtmp:// instead of rtmps://, or the port on which it speaks TLS (mostly 443).",
    ),
    "tls-closed": Verdict(
        "{host} closed the connection on port {port} in the middle of the TLS handshake.",
        "If the platform's address begins with rtmp://, write that: it speaks no TLS there. If address and port are"
        " right, a firewall cuts TLS connections.",
    ),
    "tls-silent": Verdict(
        "{host} took the connection on port {port} but does not answer to TLS.",
        "Compare the port with the address that the platform gives; or a firewall swallows what is sent.",
    ),
    "tls-failed": Verdict("TLS with {host} failed: {said}", "Ask whoever runs {host}."),
    # RTMP.
    "http": Verdict(
        "A web server answers on port {port} of {host}, not RTMP.",
        "Use the platform's ingest address (rtmp:// or rtmps://), not the address of its web page.",
    ),
    "tls-needed": Verdict("{host} speaks TLS on port {port}.", "Write rtmps:// instead of rtmp://."),
    "not-rtmp": Verdict(
        "What answers on port {port} of {host} does not speak RTMP ({said}).",
        "Compare address and port with what the platform gives.",
    ),
    "handshake-silent": Verdict(
        "{host} took the connection on port {port} and never spoke.",
        "The server hangs, or a firewall answers for it: try rtmps:// on port 443, or another ingest server.",
    ),
    "handshake-closed": Verdict(
        "{host} closed the connection before a word of RTMP.",
        "If the platform's address begins with rtmps://, write that: a port that speaks TLS does so. Compare address"
        " and port; if they are right, try again in a minute, or another ingest server.",
    ),
    "connect-silent": Verdict(
        "{host} shakes hands and answers nothing after that.", "Try again in a minute, or another ingest server."
    ),
    "connect-closed": Verdict(
        "{host} closed the connection when the app was named.",
        "Compare what follows the host in the address ({app}) with what the platform gives.",
    ),
    "connect-rejected": Verdict(
        "{host} refuses the app {app}: {said}",
        "Compare what follows the host in the address with what the platform gives.",
    ),
    "auth-needed": Verdict(
        "{host} wants a user name and a password before it takes the app.",
        "Write user and password into the target's table and check with --target.",
    ),
    "auth-failed": Verdict("{host} does not accept the login: {said}", "Compare user and password."),
    "redirect-refused": Verdict(
        "{host} sends us to another server, where we do not go: {said}",
        "Ask whoever runs {host} for the address of the server that takes the stream, and write that.",
    ),
    "address-refused": Verdict(
        "{host}, where another server sends us, is not a public address.",
        "Write its network into [plugins.restream] allow_networks, if it is yours.",
    ),
    "key-refused": Verdict("{title} refuses the key: {said}", _KEY + "."),
    "not-started": Verdict(
        "{title} says that the event is not open: {said}",
        "Start or schedule the event on the platform, then check again. Some open minutes before the show only.",
    ),
    "busy": Verdict(
        "Somebody publishes with this key already: {said}",
        "Stop the other encoder, or wait a minute until the platform has forgotten it.",
    ),
    "publish-refused": Verdict(
        "{title} refuses the publish: {said}", _KEY + ", and see that the event is open and not over."
    ),
    "publish-closed": Verdict(
        "{title} closed the connection when it was given the key, without a word.",
        _KEY + ", and see that the event is open. This is how many platforms refuse a key.",
    ),
    "publish-silent": Verdict(
        "{title} took the key and gives no answer.", "Try again in a minute, or another ingest server."
    ),
    "dropped-early": Verdict(
        "{title} granted the publish and closed the connection {lived:.1f} s later, without a word.",
        _KEY + ", and see that the event is open. This is how many platforms refuse a key (Twitch always).",
    ),
    # The upload.
    "stalled": Verdict(
        "{title} took the publish, then only {accepted:.1f} of {offered:.1f} Mbit/s: it stopped reading.",
        "Try again, and another ingest server. If it happens everywhere, something in between (firewall, VPN, proxy)"
        " holds back long uploads.",
    ),
    "too-small": Verdict(
        "Only {accepted:.1f} of {offered:.1f} Mbit/s got there: the upload is too small{share}.",
        "Plan at most {advised} Mbit/s in all, on a line that nobody else uses; use a cable instead of wifi; or try"
        " another ingest server, to see whether the line or the server is slow.",
    ),
    "cut": Verdict(
        "The connection ended after {lived:.0f} s of {seconds:.0f} s: {said}",
        "Try again. If it ends after the same time each time, something in between (firewall, VPN, NAT) cuts it, or the"
        " platform does: see what its page says.",
    ),
    "failed": Verdict("It failed: {said}", "Try again; the words above are all that is known."),
}

CERTIFICATES: Mapping[int, str] = {
    WRONG_FINGERPRINT: "tls-fingerprint",
    2: "tls-untrusted",
    3: "tls-crl",
    7: "tls-untrusted",
    8: "tls-crl",
    9: "tls-early",
    10: "tls-expired",
    11: "tls-crl",
    12: "tls-crl",
    18: "tls-self-signed",
    19: "tls-untrusted",
    20: "tls-untrusted",
    21: "tls-untrusted",
    23: "tls-revoked",
}
"""OpenSSL's number of what is wrong with a certificate (X509_V_ERR_*) -> code."""

PROTOCOLS: Mapping[str, str] = {"hs.http_on_rtmp": "http", "hs.tls_on_rtmp": "tls-needed"}
"""Reason of a RemoteProtocolError -> code; any other is `not-rtmp`."""

_SAID = (
    ("busy", re.compile(r"already|in use|duplicate|exists", re.IGNORECASE)),
    (
        "not-started",
        re.compile(r"not.{0,12}(started|open|begun|active|scheduled|live)|inactive|too early", re.IGNORECASE),
    ),
    (
        "key-refused",
        re.compile(r"badname|\bkey\b|invalid|denied|unauthori|forbidden|not (valid|known|found)", re.IGNORECASE),
    ),
)
"""What servers say when they refuse a publish: the first that matches decides."""


def refusal(said: str) -> str:
    """Return the code of a refused publish by what the server said about it."""
    return next((code for code, words in _SAID if words.search(said)), "publish-refused")


def sentences(code: str, facts: Mapping[str, object]) -> tuple[str, str]:
    """Return what is the matter and what to do."""
    verdict = VERDICTS[code]
    return verdict.says.format_map(facts), verdict.do.format_map(facts)
