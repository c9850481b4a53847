"""Records each stream to disk: files that open in any player, whatever happens to encoder, relay or disk.

The plugin says what is recorded, where, and what becomes of finished files. The rule it guards: the disk's work is
done by threads of its own; the reactor, the stream and every other sink notice nothing of a disk that hangs or fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from twisted.application.service import IService, Service

from relay.api import Context, Sink, StreamInfo, hookimpl

from .archive import Archive
from .book import RecordingBook
from .disk import PosixDisk
from .options import Options, StreamOptions

__all__ = ["RecordPlugin"]


class RecordPlugin:
    """Opens a recorder for every stream that starts."""

    Config = Options
    StreamConfig = StreamOptions

    def __init__(self, config: Options, context: Context[StreamOptions]) -> None:
        archive = Archive(config.directory.absolute(), disk=PosixDisk(), wall_clock=time.time)
        self.book = RecordingBook(config, context, archive, time.time)
        context.control_recording(self.book)

    @hookimpl
    def open_sinks(self, stream: StreamInfo) -> Iterable[Sink]:
        """Return the recorder of the stream, running or not: the API may start it later."""
        return [self.book.open(stream)]

    @hookimpl
    def services(self) -> Iterable[IService]:
        """Return what runs the threads and the timer."""
        return [RecordService(self.book)]


class RecordService(Service):
    """Runs the book."""

    def __init__(self, book: RecordingBook) -> None:
        self._book = book

    def startService(self) -> None:
        """Start threads and timer."""
        super().startService()  # type: ignore[no-untyped-call]
        self._book.start()

    def stopService(self) -> None:
        """Stop them. Streams are over by now, and their files finished."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._book.stop()
