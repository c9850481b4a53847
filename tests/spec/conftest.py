"""One server for all socket cases, with its witness."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.integration.harness import relay, stream_table
from tests.spec.peer import Witness
from tests.spec.server import CONFIG, FOREIGN, WITNESS_KEY, WITNESS_STREAM, Server, key_of, stream_of

CASES_AT_MOST = 2500


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A relay that knows a key for every case."""
    with contextlib.ExitStack() as stack:
        running = None
        if FOREIGN:
            host, _, port = FOREIGN.rpartition(":")
            address = (host, int(port))
        else:
            tables = stream_table(WITNESS_STREAM, WITNESS_KEY)
            tables += "".join(stream_table(stream_of(index), key_of(index)) for index in range(CASES_AT_MOST))
            names = [WITNESS_STREAM, *(stream_of(index) for index in range(CASES_AT_MOST))]
            tables += "".join(f"[streams.{name}.failover]\nhold_s = 0\n" for name in names)
            running = stack.enter_context(
                relay(tmp_path_factory.mktemp("relay"), tables, extra=CONFIG, plugins=["streamkeys"])
            )
            address = ("127.0.0.1", running.port)
        witness = Witness(address, WITNESS_KEY, WITNESS_KEY if FOREIGN else WITNESS_STREAM)
        stack.callback(witness.close)
        yield Server(address, running, witness)
