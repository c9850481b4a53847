"""The record plugin as the relay sees it."""

from __future__ import annotations

from typing import ClassVar

from relay.testing import PluginContract
from relay_record import RecordPlugin


class TestRecord(PluginContract):
    name = "record"
    plugin = RecordPlugin
    config: ClassVar = {"directory": "/nonexistent/recordings"}
    streams: ClassVar = {"stage": {"segment_s": 10}}
    bad_configs = (
        ({"directory": "/nonexistent", "format": "avi"}, "plugins.record.format"),
        ({"directory": "/nonexistent", "segment_s": -1}, "plugins.record.segment_s"),
        ({"directory": "/nonexistent", "min_free_mb": -1}, "plugins.record.min_free_mb"),
        ({"directory": "/nonexistent", "segment_clock": True}, "plugins.record"),
        ({"format": "flv"}, "plugins.record.directory"),
    )
    bad_streams = (({"directory": "/elsewhere"}, "streams.stage.record.directory"),)
