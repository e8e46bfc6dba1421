"""What is said of long work in lines."""

import pytest

from dnnlib.progress import Lines


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def work(lines: Lines, clock: Clock, count: int, seconds: float, *, first: int = 0, what: str | None = None) -> None:
    """Do pieces of work that take so many seconds each."""
    for done in range(first, count + 1):
        if done > first:
            clock.now += seconds
        lines.update(done, count, what)


def test_long_work_says_once_how_long_it_will_take_and_what_makes_it_shorter(clock: Clock) -> None:
    said: list[str] = []
    lines = Lines(said.append, "drawing", None, shorter="--count makes it shorter", every=None, clock=clock)
    work(lines, clock, 100, 2.0)
    assert said == ["drawing: about 3 min 16 s for 98 more; --count makes it shorter"]


def test_short_work_says_nothing(clock: Clock) -> None:
    said: list[str] = []
    work(Lines(said.append, "drawing", None, clock=clock), clock, 100, 0.5)
    assert said == []


def test_without_a_terminal_a_line_a_minute_says_how_far_it_is(clock: Clock) -> None:
    said: list[str] = []
    work(Lines(said.append, "drawing", 100, clock=clock), clock, 100, 6.0)
    assert said[0] == "drawing: about 9 min 54 s for 99 more"
    assert said[1] == "drawing: 11 of 100, 8 min 54 s left"
    assert len(said) == 10


def test_what_was_done_before_does_not_count_as_speed(clock: Clock) -> None:
    said: list[str] = []
    work(Lines(said.append, "drawing", 1000, clock=clock), clock, 1000, 4.0, first=900)
    assert said[0] == "drawing: about 6 min 36 s for 99 more"


def test_each_kind_of_work_is_told_by_itself(clock: Clock) -> None:
    said: list[str] = []
    lines = Lines(said.append, "drawing", None, every=None, clock=clock)
    work(lines, clock, 100, 4.0, what="drawing")
    work(lines, clock, 50, 8.0, first=1, what="looking")
    assert [line.split(":")[0] for line in said] == ["drawing", "looking"]
