from __future__ import annotations

from twisted.internet.defer import Deferred

from relay.decisions import Allow, Decision, Deny
from relay.events import PlayerJoined, PlayerLeft
from relay.net.ingest import LINGER_S, ROLES
from relay.net.playback import FAREWELL_S, PLAYER_STALL_S, WAIT_FOR_STREAM_S
from relay.rtmp.events import PlayAccepted
from tests.helpers.peers import Caller, call, viewer
from tests.helpers.reactor import quiet, turns, until
from tests.helpers.relays import OnAir, RelayTestCase, on_air
from tests.helpers.seats import check_programme, frames_of

NOT_FOUND = "NetStream.Play.StreamNotFound"
FAILED = "NetStream.Play.Failed"
STREAM_EOF = b"\x00\x01\x00\x00\x00\x01"


class PlaybackTestCase(RelayTestCase):
    async def show(self, frames: int = 3) -> OnAir:
        """A programme that can be played."""
        show = await on_air(self.port, frames=frames)
        await until(lambda: "show" in self.door.registry and self.stream.started, "a live stream")
        return show

    async def ask(self, name: str = "show") -> Caller:
        """A player that asks and is not answered yet, or is refused."""
        asked = len(self.answers.asked)
        caller = await call(self.port, Caller("play", name))
        await until(lambda: len(self.answers.asked) > asked or caller.closed, "the question")
        return caller


class AskingTests(PlaybackTestCase):
    async def test_a_player_gets_the_programme(self) -> None:
        self.open()
        show = await self.show()

        player = await viewer(self.port)
        show.run(2)
        await until(lambda: len(frames_of(player.messages)) == 10, "five pictures and sounds")

        assert check_programme(player.messages) == list(range(10))
        assert [event.stream for event in self.answers.of(PlayerJoined)] == ["show"]
        assert self.door.admission.roles["player"] == 1

    async def test_one_that_comes_a_moment_before_the_encoder_gets_it_too(self) -> None:
        self.open()
        player = await self.ask()
        self.wait(1.0)
        await self.show()

        self.wait(0.25)

        await until(lambda: player.has(PlayAccepted), "the start")

    async def test_after_two_seconds_it_is_told_that_there_is_none(self) -> None:
        self.open()
        player = await self.ask()
        self.wait(WAIT_FOR_STREAM_S - 0.25)
        assert self.codes == []

        self.wait(0.5)
        await until(lambda: player.closed, "the close")

        assert self.codes == ["play.not_found"]
        assert "not live" in player.said(NOT_FOUND)

    async def test_a_name_outside_the_grammar_is_refused_before_anybody_is_asked(self) -> None:
        self.open()
        player = await call(self.port, Caller("play", "..%2f..%2fetc"))

        await until(lambda: player.closed, "the close")

        assert self.codes[0].startswith("name.")
        assert self.answers.asked == []

    async def test_a_denied_player_is_told_what_the_plugin_allows_it_to_know(self) -> None:
        self.open()
        await self.show()
        self.answers.play = lambda _: Deny(reason="no ticket", public="Buy a ticket.")

        player = await self.ask()
        await until(lambda: player.closed, "the close")

        assert player.said(FAILED) == "Buy a ticket."
        assert self.codes == ["auth.play_denied"]
        assert self.door.answers["play-denied"] == 1

    async def test_guessing_play_keys_is_slowed_down(self) -> None:
        self.open()
        await self.show()
        self.answers.play = lambda _: Deny()
        for _ in range(5):
            player = await self.ask()
            await until(lambda player=player: player.closed, "an answer at once")  # type: ignore[misc]

        await self.ask()
        await turns(10)
        assert len(self.codes) == 5
        self.clock.advance(1.0)

        await until(lambda: len(self.codes) == 6, "the answer")

    async def test_players_above_the_limit_are_told_and_cost_no_framing(self) -> None:
        self.open(players=1)
        await self.show()
        first = await viewer(self.port)
        self.answers.publish = lambda _: Allow(stream_name="other")
        other = await on_air(self.port, "x")
        await until(lambda: "other" in self.door.registry and self.door.registry.get("other").started, "other")  # type: ignore[union-attr]

        refused = await self.ask("other")
        await until(lambda: refused.closed, "the close")

        assert "full" in refused.said(FAILED)
        assert self.codes == ["limit.players"]
        assert self.door.audiences.existing("other") is None
        assert first.closed is None
        assert other.caller.closed is None

    async def test_one_that_leaves_while_it_is_asked_about_joins_nothing(self) -> None:
        self.open()
        await self.show()
        answer: Deferred[Decision] = Deferred()
        self.answers.play = lambda _: answer
        player = await self.ask()

        player.drop()
        await until(lambda: self.door.admission.connections == 1, "the end")
        answer.callback(Allow())

        assert self.answers.of(PlayerJoined) == []
        assert self.door.audiences.existing("show") is None

    async def test_one_that_leaves_while_it_waits_for_the_stream_joins_nothing(self) -> None:
        self.open()
        player = await self.ask()
        self.wait(0.5)

        player.drop()
        await until(lambda: self.door.admission.connections == 0, "the end")
        await self.show()
        self.wait(1.0)

        assert self.answers.of(PlayerJoined) == []

    async def test_while_shutting_down_no_player_joins(self) -> None:
        self.open()
        await self.show()
        answer: Deferred[Decision] = Deferred()
        self.answers.play = lambda _: answer
        player = await self.ask()

        self.door.draining = True
        answer.callback(Allow())

        await until(lambda: player.closed, "the refusal")
        assert self.answers.of(PlayerJoined) == []


class PlayingTests(PlaybackTestCase):
    async def test_a_player_that_stops_reading_is_dropped_after_ten_seconds(self) -> None:
        self.open(publish_idle_s=1000)
        show = await self.show()
        good, stuck = await viewer(self.port), await viewer(self.port)
        stuck.tcp.pauseProducing()
        audience = self.door.audiences.existing("show")
        assert audience is not None
        for _ in range(200):
            show.run(1, size=60_000)
            await turns(2)
            if any(player.is_behind for player in audience.players):
                break
        await until(lambda: any(player.is_behind for player in audience.players), "one that is behind")
        await quiet(lambda: len(good.messages))

        self.wait(PLAYER_STALL_S - 0.5)
        assert self.codes == []
        self.wait(1.0)

        assert self.codes == ["player.stalled"]
        assert [event.reason for event in self.answers.of(PlayerLeft)] == ["player.stalled"]
        assert self.door.audiences.dropped("show") == 1
        await until(lambda: self.door.admission.roles["player"] == 1, "its place is free")
        show.run(1)
        await until(lambda: frames_of(good.messages)[-1].timestamp == show.dts - 40, "the newest frame")
        assert check_programme(good.messages) == list(range(show.serial))

    async def test_waiting_for_a_late_keyframe_is_no_stall(self) -> None:
        self.open(publish_idle_s=1000)
        show = await self.show()
        show.dts = 1040
        for _ in range(3):
            show.run(1)
        player = await viewer(self.port)

        self.wait(3 * PLAYER_STALL_S)

        assert self.codes == []
        assert player.closed is None

    async def test_the_end_of_the_stream_is_said_after_its_last_frame(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        player.keep_raw = True
        show.run(5)
        await until(lambda: self.feed().packets_total == 18, "all frames")

        show.caller.drop()
        await until(lambda: player.closed, "the close")

        assert check_programme(player.messages) == list(range(16))
        assert player.said("NetStream.Play.UnpublishNotify")
        assert STREAM_EOF in player.raw
        assert [event.reason for event in self.answers.of(PlayerLeft)] == ["ended"]
        assert self.codes == []

    async def test_a_slow_player_has_time_to_read_the_end(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        player.tcp.pauseProducing()
        show.run(4, size=60_000)
        await until(lambda: self.feed().packets_total == 16, "all frames")
        show.caller.drop()
        await until(lambda: "show" not in self.door.registry, "the end")
        await turns(5)

        self.wait(FAREWELL_S - 1.0)
        await turns(5)
        player.tcp.resumeProducing()
        await until(lambda: player.closed, "the close")

        assert check_programme(player.messages) == list(range(14))
        assert player.said("NetStream.Play.UnpublishNotify")

    async def test_a_player_that_does_not_read_the_end_is_gone_all_the_same(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        player.tcp.pauseProducing()
        show.run(100, size=60_000)
        await until(lambda: self.feed().packets_total == 208, "all frames")
        show.caller.drop()
        await until(lambda: "show" not in self.door.registry, "the end")

        self.wait(2 * FAREWELL_S + LINGER_S + 1)

        await until(lambda: self.door.admission.connections == 0, "the end of the connection")

    async def test_a_paused_player_gets_nothing_until_it_goes_on(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        await until(lambda: frames_of(player.messages), "the start")
        player.command("pause", True, 0.0, transaction=8.0)
        await until(lambda: player.said("NetStream.Pause.Notify"), "the answer")
        held = len(player.messages)
        show.run(5)
        await until(lambda: self.feed().packets_total == 18, "all frames")
        await turns(5)
        assert len(player.messages) == held

        player.command("pause", False, 0.0, transaction=9.0)
        show.run(1)

        await until(lambda: frames_of(player.messages)[-1].timestamp == show.dts - 40, "the newest frame")
        assert check_programme(player.messages) == list(range(show.serial))

    async def test_an_answer_in_the_middle_of_the_stream_is_readable(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        player.tcp.pauseProducing()
        for _ in range(60):
            show.run(1, size=60_000)
        await until(lambda: self.feed().packets_total == 128, "all frames")
        await turns(5)
        before = self.made[1]._bytes_in
        for number in range(20):
            player.command("unknownThing", transaction=float(100 + number), msid=0)
        await until(lambda: self.made[1]._bytes_in >= before + 20 * 35, "the commands")

        player.tcp.resumeProducing()
        show.run(1)

        await until(lambda: player.messages[-1].timestamp == show.dts - 40, "the newest frame")
        check_programme(player.messages)

    async def test_a_player_that_stops_may_play_again_on_its_connection(self) -> None:
        self.open()
        await self.show()
        player = await viewer(self.port)
        await until(lambda: frames_of(player.messages), "the start")

        player.command("closeStream", transaction=0.0)
        await until(lambda: self.answers.of(PlayerLeft), "the end")
        assert self.door.admission.roles["player"] == 0
        player.command("play", "show", transaction=9.0)

        await until(lambda: len(self.answers.of(PlayerJoined)) == 2, "the second start")

    async def test_a_player_that_stops_and_plays_without_end_is_closed(self) -> None:
        self.open()
        await self.show()
        player = await viewer(self.port)
        begun = len(self.answers.asked)

        for number in range(40):
            player.command("closeStream", transaction=0.0)
            player.command("play", "show", transaction=9.0 + number)
        await until(lambda: player.closed, "the close")

        assert self.codes == ["cmd.flood"]
        assert len(self.answers.asked) - begun <= ROLES

    async def test_a_player_that_stops_in_the_middle_of_a_message_is_closed(self) -> None:
        self.open()
        show = await self.show()
        player = await viewer(self.port)
        player.tcp.pauseProducing()
        for _ in range(100):
            show.run(1, size=60_000)
        await until(lambda: self.feed().packets_total == 208, "all frames")
        await turns(5)

        player.command("deleteStream", 1.0, transaction=0.0, msid=0)
        player.command("createStream", transaction=77.0, msid=0)
        await until(lambda: self.answers.of(PlayerLeft), "the end")
        player.tcp.resumeProducing()
        await until(lambda: player.closed, "the close")

        check_programme(player.messages)
        assert self.codes == []

    async def test_joining_is_reported_before_leaving(self) -> None:
        self.open()
        await self.show()
        player = await viewer(self.port)
        player.drop()

        await until(lambda: self.answers.of(PlayerLeft), "the end")

        kinds = [type(event) for event in self.answers.events if isinstance(event, PlayerJoined | PlayerLeft)]
        assert kinds == [PlayerJoined, PlayerLeft]
