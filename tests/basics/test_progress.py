"""How long work will take, said once."""

import pytest

from dnnlib.progress import Forecast


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def work(forecast: Forecast, clock: Clock, count: int, seconds: float, *, first: int = 0,
         what: str | None = None) -> None:
    """Do pieces of work that take so many seconds each."""
    for done in range(first, count + 1):
        if done > first:
            clock.now += seconds
        forecast.update(done, count, what)


def test_long_work_says_once_how_long_it_will_take_and_what_makes_it_shorter(clock: Clock) -> None:
    said: list[str] = []
    forecast = Forecast(said.append, "drawing", None, shorter="--count makes it shorter", clock=clock)
    work(forecast, clock, 100, 2.0)
    assert said == ["drawing: about 3 min 16 s for 98 more; --count makes it shorter"]


def test_short_work_says_nothing(clock: Clock) -> None:
    said: list[str] = []
    work(Forecast(said.append, "drawing", None, clock=clock), clock, 100, 0.5)
    assert said == []


def test_what_was_done_before_does_not_count_as_speed(clock: Clock) -> None:
    said: list[str] = []
    work(Forecast(said.append, "drawing", 1000, clock=clock), clock, 1000, 4.0, first=900)
    assert said[0] == "drawing: about 6 min 36 s for 99 more"


def test_each_kind_of_work_is_told_by_itself(clock: Clock) -> None:
    said: list[str] = []
    forecast = Forecast(said.append, "drawing", None, clock=clock)
    work(forecast, clock, 100, 4.0, what="drawing")
    work(forecast, clock, 50, 8.0, first=1, what="looking")
    assert [line.split(":")[0] for line in said] == ["drawing", "looking"]
