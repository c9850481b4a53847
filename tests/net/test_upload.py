from __future__ import annotations

from relay.media.snow import Snow
from relay.net.flusher import Flusher
from relay.net.lanes import Lanes
from relay.net.upload import Upload
from relay.stream.outbox import MIB, Outbox
from tests.helpers.reactor import reactor


def upload_of(acked: list[int]) -> Upload:
    """An upload of whose bytes so many had arrived, second by second."""
    counts = iter([0, *acked])
    upload = Upload(Snow(1000, bytes(64 * 1024)), 1.0, Outbox(MIB, 4000), Lanes(Flusher(reactor)), lambda: next(counts))
    for second, _ in enumerate(acked, 1):
        upload.write(float(second), None)
        upload.sample(float(second))
    return upload


def test_a_destination_that_stopped_reading_has_been_silent_since() -> None:
    upload = upload_of([100, 200, 300, 300, 300, 300])

    assert upload.silent_s == 3.0


def test_a_slow_one_is_not_silent() -> None:
    assert upload_of([10, 20, 30, 31, 32, 33]).silent_s == 0.0
