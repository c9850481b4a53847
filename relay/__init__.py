"""rtmp-relay: live ingest and restreaming. One encoder in, many destinations out.

The house, top floor first. A module imports only from floors below its own; import-linter checks it.

    tap, cli             the twistd plugin and the operator's command line
    service              builds everything from a configuration; the only room that knows all parts
    testing              fakes for plugin authors
    api                  the only door for plugins
    net, http            Twisted: sockets, TLS, timers, the HTTP site
    pluginhost           finds, builds, calls, isolates and measures plugins
    config, log, hookspecs
    events, decisions    what happened; what may happen
    stream               feeds, the GOP cache, sinks, outboxes, the ring that players share
    mux                  packets into containers: FLV, fragmented MP4, MPEG-TS; recovery of cut-off files
    rtmp, media          the protocol (bytes <-> messages <-> events) and the media model (bodies <-> packets)
    amf0, amf3, secret, errors

rtmp, media, mux and stream take bytes and `now` and give back events, bytes and packets. They open no socket, read no
clock and write no log, so they can be tested whole, byte by byte and by a fuzzer. Read README.md for the way of a
packet through the house.
"""

__version__ = "0.1.0"
