"""Cases 101-113: names. None may reach a path, a log line as it is, a shell, a page or a header."""

from __future__ import annotations

from tests.spec.model import WHOLE, Case, Phase, closed, continues, refused
from tests.spec.wire import KEY, STREAM, connect, create_stream, play, publish, set_chunk_size

HANDSHAKE, CONNECT = Phase.HANDSHAKE, Phase.CONNECT
REFUSED = refused("NetStream.*", "NetConnection.*") | closed("name.*", "connect.*", "cmd.*")

NAMES: list[tuple[int, str, str | bytes]] = [
    (101, "up", "../../../../tmp/pwned/x"),
    (101, "dots", ".."),
    (101, "dot", "."),
    (101, "inner-dots", "a/../b"),
    (101, "absolute", "/../etc/passwd"),
    (101, "tilde", "~root"),
    (101, "drive", "C:x"),
    (101, "backslash", "..\\..\\x"),
    (102, "percent-dots", "%2e%2e%2fx"),
    (102, "percent-slash", "a%2F..%2Fb"),
    (102, "percent-twice", "%252e%252e%252f"),
    (102, "percent-nul", "a%00b"),
    (102, "percent-cut", "a%2"),
    (103, "nul", "a\0b"),
    (103, "newline", "spec\nx"),
    (103, "newline-at-end", f"{STREAM}\n"),
    (103, "carriage-return", "a\rb"),
    (103, "tab", "a\tb"),
    (103, "escape", "\x1b[31mx"),
    (103, "right-to-left", "a\u202eb"),
    (103, "zero-width", "a\u200bb"),
    (103, "combining", "e\u0301"),
    (103, "emoji", "\U0001f4a5"),
    (103, "homoglyph", "sp\u0435c"),
    (103, "latin-1", b"caf\xe9"),
    (104, "60-kib", "n" * 60_000),
    (104, "129-in-a-segment", "n" * 129),
    (104, "256-in-all", "/".join(["n" * 63] * 4) + "n"),
    (104, "5-segments", "a/b/c/d/e"),
    (104, "slashes", "/" * 1000),
    (104, "empty", ""),
    (106, "crlf-header", "a\r\nX-Evil: 1"),
    (106, "ampersand", "a&b=c"),
    (107, "playlist", 'x"\n#EXT-X-ENDLIST'),
    (108, "backticks", "`id`"),
    (108, "dollar", "$(id)"),
    (108, "semicolon", "a;id"),
    (108, "pipe", "|id"),
    (109, "script", "<script>alert(1)</script>"),
    (109, "img", '"><img src=x onerror=alert(1)>'),
    (111, "upper-case", STREAM.upper()),
    (111, "trailing-dot", STREAM + "."),
    (112, "hidden", ".hidden"),
    (112, "leading-dash", "-rf"),
]

CASES = [
    *(
        Case(
            number=number,
            name=f"publish-{name}",
            title="publish under a name that is none",
            after=CONNECT,
            send=create_stream() + publish(text),
            expect=REFUSED,
            deliveries=(WHOLE,),
        )
        for number, name, text in NAMES
    ),
    *(
        Case(
            number=number,
            name=f"play-{name}",
            title="play a name that is none",
            after=CONNECT,
            send=create_stream() + play(text),
            expect=REFUSED,
            seconds=8,
            deliveries=(WHOLE,),
        )
        for number, name, text in NAMES
    ),
    *(
        Case(
            number=number,
            name=f"app-{name}",
            title="an app that is no name: nothing can be published there",
            after=HANDSHAKE,
            send=connect(text) + create_stream() + publish("no-such-key"),
            expect=REFUSED,
            deliveries=(WHOLE,),
        )
        for number, name, text in NAMES
        if len(text) < 60_000
    ),
    Case(
        number=104,
        name="publish-64-kib",
        title="a name of 64 KiB is more than a stranger's message may hold",
        after=CONNECT,
        send=create_stream() + publish("n" * 66_000),
        expect=REFUSED | closed("msg.*", "limit.*", "chunk.*", "amf.string"),
        deliveries=(WHOLE,),
    ),
    *(
        Case(
            number=105,
            name=f"{field}-{name}",
            title="control characters in what peers say about themselves: accepted, and harmless in the log",
            after=HANDSHAKE,
            send=connect(**{field: text}),
            expect=continues(),
            leaves=CONNECT,
            deliveries=(WHOLE,),
        )
        for field in ("flashVer", "pageUrl", "swfUrl", "tcUrl")
        for name, text in (("newline", 'x\n{"level": "error"}'), ("ansi", "\x1b[2J\x1b]0;x\x07"), ("nul", "a\0b"))
    ),
    *(
        Case(
            number=113,
            name=f"key-in-query-{name}",
            title="the key stands in the query of the name: the first counts",
            after=CONNECT,
            send=create_stream() + publish(text),
            expect=expect,
            leaves=Phase.PUBLISH,
            deliveries=(WHOLE,),
        )
        for name, text, expect in (
            ("plain", f"{STREAM}?key={KEY}", continues()),
            ("twice", f"{STREAM}?key={KEY}&key=wrong", continues()),
            ("twice-wrong-first", f"{STREAM}?key=wrong&key={KEY}", REFUSED),
            ("behind-others", f"{STREAM}?a=1&key={KEY}", continues()),
            ("empty", f"{STREAM}?key=", REFUSED),
            ("question-mark-only", "?", REFUSED),
            ("html-ampersand", f"{STREAM}?a=1&amp;key=wrong", REFUSED),
        )
    ),
    *(
        Case(
            number=113,
            name=f"key-in-{name}",
            title="the key stands in the query of app or tcUrl",
            after=HANDSHAKE,
            # In one chunk: runners replace the key in these bytes, which they cannot do across a chunk header.
            send=set_chunk_size(4096)
            + connect(app, tcUrl=f"rtmp://127.0.0.1/{tc_url}", chunk_size=4096)
            + create_stream()
            + publish(STREAM),
            chunk_size=4096,
            expect=continues(),
            leaves=Phase.PUBLISH,
            deliveries=(WHOLE,),
        )
        for name, app, tc_url in (
            ("app-and-tcurl", f"live?key={KEY}", f"live?key={KEY}"),
            ("app", f"live?key={KEY}", "live"),
            ("tcurl", "live", f"live?key={KEY}"),
        )
    ),
    *(
        Case(
            number=113,
            name=f"name-as-{name}",
            title="the many ways of writing the same address",
            after=HANDSHAKE,
            send=connect(app) + create_stream() + publish(text),
            expect=continues(),
            leaves=Phase.PUBLISH,
            deliveries=(WHOLE,),
        )
        for name, app, text in (
            ("app-trailing-slash", "live/", KEY),
            ("app-leading-slash", "/live", KEY),
            ("name-leading-slash", "live", f"/{KEY}"),
            ("name-trailing-query", "live", f"{KEY}?x=1"),
            ("in-the-app", f"live/{KEY}", ""),
        )
    ),
]
