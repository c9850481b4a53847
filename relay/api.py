"""The only door for plugins: everything a plugin may use of the relay, and nothing that is not here.

Re-exports, no code. The rule it guards: a name is added in a minor release and removed in a major one; the list is
pinned by a test. A plugin is a class::

    class GreetingPlugin:
        class Config(ConfigModel):
            text: str = "hello"                     # [plugins.greeting] text = "..."

        def __init__(self, config: Config, context: Context) -> None: ...

        @hookimpl
        def on_event(self, event: Event) -> None: ...

The constructor checks and keeps, it opens nothing: `rtmp-relay check-config` builds plugins too. What runs is started
by the services that it returns. An entry point ``greeting = "relay_greeting:GreetingPlugin"`` in the group
``rtmp_relay`` makes it known.
"""

from __future__ import annotations

from relay.config import TEMPLATE, is_loopback
from relay.config_file import ConfigModel, LocalPath
from relay.config_lines import show_path
from relay.context import (
    BACKUP_SUFFIX,
    Background,
    Context,
    PlaceToCheck,
    Push,
    PushSink,
    PushTarget,
    RecordingControl,
    RecordingPlan,
    TargetControl,
    TargetPlan,
)
from relay.decisions import Allow, Decision, Deny, PlayRequest, PublishRequest
from relay.errors import ConfigError, DestinationError, PluginError, RelayError
from relay.events import (
    ConnectionRefused,
    Event,
    FailoverLocked,
    FeedEnded,
    FeedHealthChanged,
    FeedMerged,
    FeedStarted,
    FeedSwitched,
    PlayerJoined,
    PlayerLeft,
    PublishRefused,
    RecordingFailed,
    RecordingFinished,
    RecordingRecovered,
    SinkFailed,
    SlatePrepared,
    StreamEnded,
    StreamHeld,
    StreamStarted,
    TargetDeliveryChanged,
    TargetStateChanged,
    TargetWarning,
)
from relay.hookcalls import TooSlowError, within
from relay.hookspecs import StreamInfo, hookimpl
from relay.localfiles import AuthorityFile, RevocationFile
from relay.media.configs import audio_facts, codec_string, video_facts
from relay.media.metadata import metadata_values
from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet
from relay.media.tailor import Tailor, Tailoring
from relay.mux import mend, recover, remux
from relay.mux.errors import MuxError
from relay.mux.flv import FlvMuxer
from relay.mux.fmp4 import Fmp4Muxer
from relay.mux.mpegts import TsMuxer
from relay.mux.segment import Finish, Fragment
from relay.net.addresses import AddressPolicy, CheckedReactor
from relay.net.endpoints import RtmpUrl, parse_url
from relay.net.failures import certificate_words
from relay.net.trust import client_tls
from relay.pluginfind import API_VERSION
from relay.rtmp.auth import is_user_name
from relay.rtmp.names import is_public_name
from relay.secret import Secret, redact_url, redact_urls
from relay.secretref import SecretRef, SecretRefs
from relay.stream.fit import Compatibility, compatibility
from relay.stream.sinks import PLANNED_ENDS, Sink, SinkStatus

__all__ = [
    "API_VERSION",
    "BACKUP_SUFFIX",
    "PLANNED_ENDS",
    "TEMPLATE",
    "AddressPolicy",
    "Allow",
    "AuthorityFile",
    "Background",
    "CheckedReactor",
    "Codec",
    "Compatibility",
    "ConfigError",
    "ConfigModel",
    "ConnectionRefused",
    "Context",
    "Decision",
    "Deny",
    "DestinationError",
    "Event",
    "FailoverLocked",
    "FeedEnded",
    "FeedHealthChanged",
    "FeedMerged",
    "FeedStarted",
    "FeedSwitched",
    "Finish",
    "FlvMuxer",
    "Fmp4Muxer",
    "Fragment",
    "LocalPath",
    "MediaKind",
    "MuxError",
    "Packet",
    "PlaceToCheck",
    "PlayRequest",
    "PlayerJoined",
    "PlayerLeft",
    "PluginError",
    "PublishRefused",
    "PublishRequest",
    "Push",
    "PushSink",
    "PushTarget",
    "RecordingControl",
    "RecordingFailed",
    "RecordingFinished",
    "RecordingPlan",
    "RecordingRecovered",
    "RelayError",
    "RevocationFile",
    "Role",
    "RtmpUrl",
    "Secret",
    "SecretRef",
    "SecretRefs",
    "Sink",
    "SinkFailed",
    "SinkStatus",
    "SlatePrepared",
    "StreamEnded",
    "StreamHeld",
    "StreamInfo",
    "StreamStarted",
    "Tailor",
    "Tailoring",
    "TargetControl",
    "TargetDeliveryChanged",
    "TargetPlan",
    "TargetStateChanged",
    "TargetWarning",
    "TooSlowError",
    "Track",
    "TrackSet",
    "TsMuxer",
    "audio_facts",
    "certificate_words",
    "client_tls",
    "codec_string",
    "compatibility",
    "hookimpl",
    "is_loopback",
    "is_public_name",
    "is_user_name",
    "mend",
    "metadata_values",
    "parse_url",
    "recover",
    "redact_url",
    "redact_urls",
    "remux",
    "show_path",
    "video_facts",
    "within",
]
