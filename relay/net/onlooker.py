"""A thread that looks at the reactor from outside, and remembers where it stood when it was late.

The rule it guards: what holds up the reactor cannot be found by the reactor, which is held up. The thread reads two
numbers ten times a second, holds no lock, and takes a sample of the stack only when the reactor is late: file, line and
function of each frame, never a value, so no secret can be in it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType

LOOK_S = 0.1
"""Between two looks: a blockage of 250 ms is seen twice."""

MOST_FRAMES = 60
"""Frames of a stack that are kept, innermost first; a recursion may have a thousand."""

SHOWN_FRAMES = 3
"""Frames in one line of warning when none of them belongs to a plugin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One frame: where, without any value. *plugin* is the plugin whose code it is, or empty."""

    function: str
    file: str
    line: int
    plugin: str = ""

    def __str__(self) -> str:
        whose = f" of plugin {self.plugin}" if self.plugin else ""
        return f"{self.function} ({self.file}:{self.line}){whose}"


Stack = tuple[Place, ...]
"""Innermost first."""


def nobody(module: str) -> str:
    """Stand in for what knows the plugins."""
    return ""


def stack_of(frame: FrameType | None, plugin_of: Callable[[str], str] = nobody) -> Stack:
    """Describe *frame* and its callers."""
    return tuple(_places(frame, plugin_of))


def _places(frame: FrameType | None, plugin_of: Callable[[str], str]) -> Iterator[Place]:
    for _ in range(MOST_FRAMES):
        if frame is None:
            return
        code = frame.f_code
        file = "/".join(PurePath(code.co_filename).parts[-2:])
        plugin = plugin_of(str(frame.f_globals.get("__name__", "")))
        yield Place(function=code.co_name, file=file, line=frame.f_lineno or 0, plugin=plugin)
        frame = frame.f_back


def brief(stack: Stack) -> str:
    """Say in a few words where *stack* is: the innermost frame, and the plugin's if that is another one."""
    culprit = next((place for place in stack if place.plugin), None)
    if culprit is None:
        return ", called by ".join(map(str, stack[:SHOWN_FRAMES]))
    if culprit is stack[0]:
        return str(culprit)
    return f"{stack[0]}, called by {culprit}"


class Onlooker:
    """Looks at a reactor that beats every *interval_s*; keeps a sample when it is late.

    Attributes:
        beats: how often the reactor said that it runs. It alone writes this.
        stack: where the reactor stood when it was late for the first time since its last beat; empty if it was not.

    Time counts only as far as the onlooker saw it pass, two looks' worth at a time. A process that was suspended was
    suspended with this thread in it, so ten minutes of SIGSTOP are a fifth of a second here, and no plugin's fault.
    A C function that keeps Python's lock holds up this thread as well, but the process computes meanwhile: that counts,
    and the first look after it still finds the frame that called it.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        *,
        interval_s: float,
        late_s: float,
        stuck_s: float,
        on_stuck: Callable[[float, Stack], None],
        plugin_of: Callable[[str], str] = nobody,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        """Prepare.

        Args:
            late_s: a beat that is later than this is worth a sample.
            stuck_s: one that is later than this is worth a call of *on_stuck*, from this thread, once.
            plugin_of: says which plugin a module belongs to; empty for none.
            frames: returns the innermost frame of each thread.
            computed: returns the seconds that the process has computed so far.
        """
        self.beats = 0
        self.stack: Stack = ()
        self._seconds = seconds
        self._interval_s = interval_s
        self._late_s = late_s
        self._stuck_s = stuck_s
        self._on_stuck = on_stuck
        self._plugin_of = plugin_of
        self._frames = frames
        self._computed = computed
        self._thread = threading.get_ident()
        self._seen_beats = 0
        self._looked_at = 0.0
        self._computed_at = 0.0
        self._waited_s = 0.0
        self._told = False
        self._ending = threading.Event()

    def beat(self) -> None:
        """Note that the reactor runs. Called by the reactor, every `interval_s`."""
        self.beats += 1
        self.stack = ()

    def start(self) -> None:
        """Begin to look at the thread that calls this."""
        self._thread = threading.get_ident()  # not before: twistd forks on the way to being a daemon
        self._ending = ending = threading.Event()
        self._looked_at, self._computed_at = self._seconds(), self._computed()
        threading.Thread(target=self._run, args=(ending,), name="onlooker", daemon=True).start()

    def stop(self) -> None:
        """Look no more. Waits for nothing: the thread ends at its next look."""
        self._ending.set()

    def _run(self, ending: threading.Event) -> None:
        while not ending.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Look once; a test calls this itself."""
        beats, passed = self.beats, self._passed()
        if beats != self._seen_beats:
            self._seen_beats, self._waited_s, self._told = beats, 0.0, False
            return
        self._waited_s += passed
        late = self._waited_s - self._interval_s
        if late > self._late_s and not self.stack:
            self._keep(beats)
        if late > self._stuck_s and not self._told:
            self._told = True
            self._on_stuck(late, self._sample())

    def _passed(self) -> float:
        """Return the seconds since the last look in which the process ran."""
        now, computed = self._seconds(), self._computed()
        passed, self._looked_at = now - self._looked_at, now
        worked, self._computed_at = computed - self._computed_at, computed
        return min(passed, max(worked, 2 * LOOK_S))

    def _sample(self) -> Stack:
        return stack_of(self._frames().get(self._thread), self._plugin_of)

    def _keep(self, beats: int) -> None:
        stack = self._sample()
        if self.beats == beats:  # else it came to just now, and the sample shows something else
            self.stack = stack
