from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from relay.config import Listen
from relay.errors import ConfigError
from relay.net.ingest import LINGER_S
from relay.net.listen import Listener
from relay.net.tls import ReloadingCertificate, load_context
from relay.rtmp.events import PublishAccepted
from tests.helpers.doors import make_door, new_clock
from tests.helpers.peers import Caller
from tests.helpers.reactor import NetTestCase, reactor, turns, until
from tests.helpers.relays import RelayTestCase
from tests.helpers.streams import End
from tests.helpers.tls import Authority, ClientCreator, TlsEnd, tls_client


class LoadingTests(NetTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.tmp_path)

    def refused(self, certificate: Path, private_key: Path) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load_context(certificate, private_key)
        with pytest.raises(ConfigError) as again:
            ReloadingCertificate(certificate, private_key)
        assert (again.value.path, again.value.message) == (caught.value.path, caught.value.message)
        return caught.value

    def test_a_missing_file_is_named(self) -> None:
        certificate, private_key = self.authority.issue()
        missing = self.tmp_path / "nothing.pem"

        error = self.refused(missing, private_key)
        assert error.path == "certificate"
        assert f"cannot read {missing}: No such file" in error.message
        error = self.refused(certificate, missing)
        assert error.path == "private_key"
        assert f"cannot read {missing}: No such file" in error.message

    def test_a_directory_is_no_file(self) -> None:
        certificate, _ = self.authority.issue()

        assert f"cannot read {self.tmp_path}" in self.refused(certificate, self.tmp_path).message

    def test_a_key_that_does_not_belong_to_the_certificate_is_said(self) -> None:
        certificate, _ = self.authority.issue("one")
        _, other_key = self.authority.issue("other")

        message = self.refused(certificate, other_key).message

        assert str(certificate) in message
        assert str(other_key) in message
        assert "mismatch" in message

    def test_files_that_hold_something_else_are_said(self) -> None:
        certificate, private_key = self.authority.issue()
        nonsense = self.tmp_path / "nonsense.pem"
        for content in (b"", b"hello", b"\x00\xff" * 100, certificate.read_bytes()[:200]):
            nonsense.write_bytes(content)
            assert str(nonsense) in self.refused(nonsense, private_key).message
            assert str(nonsense) in self.refused(certificate, nonsense).message

    def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(self) -> None:
        certificate, private_key = self.authority.issue()
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
        for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
            encryption = serialization.BestAvailableEncryption(b"passphrase")
            private_key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))

            error = self.refused(certificate, private_key)

            assert error.path == "private_key"
            assert f"{private_key} is protected by a passphrase" in error.message
            assert "openssl pkey -in" in error.message

    def test_a_listener_names_the_files_too(self) -> None:
        listen = Listen(
            url="rtmps://127.0.0.1:0",
            certificate=self.tmp_path / "no.pem",
            private_key=self.tmp_path / "no.key",
        )

        with pytest.raises(ConfigError, match=r"no\.pem"):
            Listener(reactor, make_door(new_clock()), listen, in_thread=deferToThread)

    def test_an_expired_certificate_is_served_and_its_age_is_known(self) -> None:
        files = self.authority.issue(days=-2)
        listen = Listen(url="rtmps://127.0.0.1:0", certificate=files[0], private_key=files[1])
        listener = Listener(reactor, make_door(new_clock()), listen, in_thread=deferToThread)

        assert listener.expiry is not None
        assert -2.1 < (listener.expiry.not_after - time.time()) / 86_400 < -1.9

    async def test_a_certificate_that_encoders_refuse_is_said_when_its_listener_opens(self) -> None:
        files = self.authority.issue(days=-2)
        listen = Listen(url="rtmps://127.0.0.1:0", certificate=files[0], private_key=files[1])
        listener = Listener(reactor, make_door(new_clock()), listen, in_thread=deferToThread)
        heard: list[dict[str, object]] = []
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)

        listener.open()
        await listener.close()

        assert any("expired 2.0 days ago" in str(line.get("said")) for line in heard)


class TlsTestCase(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.tmp_path)
        self.files = self.authority.issue()
        self.failures: list[str] = []
        self.certificate = ReloadingCertificate(*self.files, on_failure=self.failures.append)
        self.open(tls=self.certificate)

    async def shake(self, creator: ClientCreator | None = None) -> TlsEnd:
        """Connect and go through the handshake, or fail."""
        end: TlsEnd = await tls_client(self.port, creator)
        await until(lambda: end.secure or end.lost, "the end of the handshake")
        return end

    async def plain(self) -> End:
        """Connect without TLS."""
        end = End()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), end)
        await until(lambda: self.made and self.made[-1].transport is not None, "accepted")
        return end


class HandshakeTests(TlsTestCase):
    async def test_tls_1_2_and_1_3_are_spoken(self) -> None:
        for version, name in ((SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")):
            end = await self.shake(ClientCreator(maximum=version))
            assert end.secure
            assert end.transport._tlsConnection.get_protocol_version_name() == name

    async def test_older_versions_are_refused(self) -> None:
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            end = await self.shake(ClientCreator(maximum=version))
            assert not end.secure
        await until(lambda: len(self.codes) == 2, "the lines")

        assert self.codes == ["tls.handshake", "tls.handshake"]
        assert all("(unsupported protocol)" in line["text"] for line in self.lines)

    async def test_a_client_that_offers_alpn_is_accepted_without_a_protocol(self) -> None:
        end = await self.shake(ClientCreator(alpn=[b"h2", b"http/1.1"]))

        assert end.secure
        assert end.transport.negotiatedProtocol is None

    async def test_a_silent_client_is_closed_at_the_deadline(self) -> None:
        end = await self.plain()
        self.wait(self.door.limits.tls_handshake_s - 0.5)
        assert self.codes == []

        self.wait(0.75)
        assert self.codes == ["tls.timeout"]
        self.wait(LINGER_S + 0.25)

        await until(lambda: end.lost, "the close")

    async def test_a_handshake_byte_by_byte_does_not_win_time(self) -> None:
        end = await self.plain()
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc":
            end.transport.write(bytes((byte,)))
            await turns(3)
            self.wait(1.0)
        assert self.codes == []

        self.wait(1.25)

        assert self.codes == ["tls.timeout"]

    async def test_plain_rtmp_is_recognised(self) -> None:
        end = await self.plain()
        end.transport.write(b"\x03" + bytes(1536))

        await until(lambda: end.lost, "the close")

        assert self.codes == ["tls.plain_rtmp"]
        assert len(self.lines) == 1
        assert "no TLS on the TLS port" in self.lines[0]["text"]

    async def test_plain_http_is_recognised(self) -> None:
        end = await self.plain()
        end.transport.write(b"GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n")

        await until(lambda: end.lost, "the close")

        assert self.codes == ["tls.plain_rtmp"]

    async def test_after_the_handshake_the_deadlines_of_rtmp_run(self) -> None:
        end = await self.shake()
        await until(lambda: self.made[0]._phase == "handshake", "our side")

        self.wait(self.door.limits.handshake_s + 0.25)

        assert self.codes == ["hs.timeout"]
        await until(lambda: end.lost, "the close")

    async def test_a_client_that_leaves_is_no_tls_failure(self) -> None:
        end = await self.shake()
        await until(lambda: self.made[0]._phase == "handshake", "our side")
        end.transport.abortConnection()
        await until(lambda: self.door.admission.connections == 0, "the end")

        assert self.codes == []

    async def test_an_encoder_publishes_over_tls(self) -> None:
        caller: Caller = await tls_client(self.port, end=Caller("publish", "primary"))  # type: ignore[arg-type]

        await until(lambda: caller.has(PublishAccepted), "the publish")

        assert self.answers.asked[0].tls is True


class RenewalTests(TlsTestCase):
    async def test_a_renewed_certificate_is_served_at_the_next_handshake(self) -> None:
        before = await self.shake()

        self.authority.issue()
        after = await self.shake()

        assert after.serial != before.serial
        before.transport.write(b"\x03")
        await until(lambda: self.made[0]._bytes_in == 1, "the old connection goes on")

    async def test_a_symlink_that_points_elsewhere_is_a_renewal(self) -> None:
        other = self.authority.issue("renewed")
        before = await self.shake()

        for path, target in zip(self.files, other, strict=True):
            link = path.with_suffix(".new")
            link.symlink_to(target)
            os.replace(link, path)
        after = await self.shake()

        assert after.serial != before.serial

    async def test_a_renewal_that_cannot_be_read_keeps_the_old_one_and_says_so_once(self) -> None:
        before = await self.shake()

        self.files[0].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        ends = [await self.shake() for _ in range(3)]

        assert {end.serial for end in ends} == {before.serial}
        assert len(self.failures) == 1
        assert str(self.files[0]) in self.failures[0]

    async def test_a_certificate_whose_key_comes_a_moment_later_is_served_then(self) -> None:
        before = await self.shake()
        old_key = self.files[1].read_bytes()
        self.authority.issue()
        new_key = self.files[1].read_bytes()

        self.files[1].write_bytes(old_key)
        between = await self.shake()
        self.files[1].write_bytes(new_key)
        after = await self.shake()

        assert between.serial == before.serial != after.serial
        assert len(self.failures) == 1

    async def test_files_that_are_gone_for_a_moment_are_no_failure(self) -> None:
        before = await self.shake()
        content = self.files[0].read_bytes()
        self.files[0].unlink()
        between = await self.shake()
        self.files[0].write_bytes(content)
        after = await self.shake()

        assert before.serial == between.serial == after.serial
        assert self.failures == []
