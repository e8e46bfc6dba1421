"""Progress where there is no terminal, and Ctrl-C amid a long step: both by a clock that the test turns."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from dnnlib import interrupt as interrupts
from dnnlib.interrupt import PATIENCE, Interrupt
from dnnlib.progress import EVERY, Lines, progress_bar


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def printed(work: Iterator[Callable[[Lines], object]], *, total: int | None = 100) -> list[str]:
    """The lines of a thread that waits as often as there is work, each wait a minute."""
    clock, stream = Clock(), io.StringIO()
    lines = Lines("drawing", total, stream, clock=clock)
    lines.update(0)

    def wait() -> bool:
        clock.now += EVERY
        some = next(work, None)
        if some:
            some(lines)
        return some is None

    lines.print_until(wait)
    return stream.getvalue().splitlines()


def test_a_line_a_minute_says_how_far_the_work_is_and_what_is_left() -> None:
    work = iter([lambda lines, n=n: lines.update(n) for n in (10, 20, 20, 40)])
    assert printed(work) == ["drawing: 10 of 100, 9 min 00 s left", "drawing: 20 of 100, 8 min 00 s left",
                             "drawing: 20 of 100, 12 min 00 s left", "drawing: 40 of 100, 6 min 00 s left"]


def test_the_time_left_is_measured_anew_for_another_part_of_the_work() -> None:
    work = iter([lambda lines: lines.update(100), lambda lines: lines.update(0, 50, "looking"),
                 lambda lines: lines.update(25)])
    assert printed(work) == ["drawing: 100 of 100, 0.0 s left", "looking: 0 of 50",
                             "looking: 25 of 50, 1 min 00 s left"]


def test_work_of_unknown_length_and_work_that_stands_still_are_said_too() -> None:
    assert printed(iter([lambda lines: lines.update(7), lambda lines: None]), total=None) == ["drawing: 7"] * 2


def test_nobody_who_reads_ends_the_lines_in_silence() -> None:
    closed = io.StringIO()
    closed.close()
    Lines("drawing", 3, closed).print_until(lambda: False)


def test_short_work_prints_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("drawing", 3) as update:
        for done in range(4):
            update(done)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_shows_words_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("dnnlib.progress.Console",
                        lambda **_: Console(file=screen, force_terminal=True, width=80, legacy_windows=False))
    with progress_bar("[bold]class", 3) as update:
        update(2)
    assert "[bold]class" in screen.getvalue()


class Timer:
    """Fires when the test says so."""

    daemon = False

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.fire, self.started, self.cancelled = seconds, call, False, False
        TIMERS.append(self)

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.cancelled = True


TIMERS: list[Timer] = []


@pytest.fixture
def ctrl_c(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Press it, and return what is said at once."""
    TIMERS.clear()

    def press() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return capfd.readouterr().err

    yield press


def test_the_first_ctrl_c_is_answered_at_once_and_granted_at_the_end_of_the_step(ctrl_c: Callable[[], str]) -> None:
    with Interrupt(timer=Timer) as interrupt:
        with interrupt.abandonable():
            said = ctrl_c()
            done = True
        assert done and interrupt.requested and "Ctrl-C again" in said
    assert PATIENCE < 5 and TIMERS[0].seconds == PATIENCE and TIMERS[0].started and TIMERS[0].cancelled


def test_a_step_that_takes_longer_is_left_where_it_stands(ctrl_c: Callable[[], str]) -> None:
    reached = []
    with Interrupt(timer=Timer) as interrupt:
        with interrupt.abandonable():
            ctrl_c()
            reached.append("before")
            TIMERS[0].fire()
            time.sleep(5)  # the signal ends it
            reached.append("after")
        reached.append("kept")
    assert reached == ["before", "kept"]


def test_what_is_being_written_is_never_left_but_the_next_step_is(ctrl_c: Callable[[], str]) -> None:
    reached = []
    with Interrupt(timer=Timer) as interrupt:
        ctrl_c()
        TIMERS[0].fire()
        reached.append("written")
        with interrupt.abandonable():
            assert len(TIMERS) == 2 and not TIMERS[1].cancelled
            TIMERS[1].fire()
            time.sleep(5)
            reached.append("drawn")
    assert reached == ["written"] and TIMERS[1].cancelled


def test_a_second_ctrl_c_stops_at_once_everywhere(ctrl_c: Callable[[], str]) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background
    with pytest.raises(KeyboardInterrupt), Interrupt(timer=Timer) as interrupt, interrupt.abandonable():
        ctrl_c()
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_real_timer_ends_a_long_step_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 0.05)
    begin = time.monotonic()
    with Interrupt() as interrupt, interrupt.abandonable():
        os.kill(os.getpid(), signal.SIGINT)
        while time.monotonic() < begin + 30:
            pass
    assert time.monotonic() - begin < 10 and interrupt.requested
