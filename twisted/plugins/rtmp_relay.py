"""Makes ``twistd rtmp-relay`` known. Imports nothing of ours: every twistd call reads this file."""

from twisted.application.service import ServiceMaker

rtmp_relay = ServiceMaker(
    "rtmp-relay",
    "relay.tap",
    "Live ingest and restreaming: one encoder in over RTMP(S), many destinations out.",
    "rtmp-relay",
)
