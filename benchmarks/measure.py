"""Contest: takes the candidates of a case in turn, and times them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, thread_time
from types import TracebackType
from typing import Final, Self, TypeAlias

Clock: TypeAlias = Callable[[], float]

CPU_TIME: Final[Clock] = thread_time


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: How often each candidate has its turn.
        turn: How many seconds a turn should take.
        scale: A factor for what has a fixed size, such as a queue's length.
    """

    rounds: int
    turn: float
    scale: float


QUICK: Final = Effort(rounds=7, turn=0.005, scale=0.1)
FULL: Final = Effort(rounds=25, turn=0.02, scale=1.0)
SMOKE: Final = Effort(rounds=2, turn=0.0002, scale=0.001)


class Turn:
    """One turn of one candidate: ``with turn:`` times ``turn.count`` operations.

    Every turn starts from a collected heap and runs without the garbage collector, so
    that nobody pays for what another one left behind.
    """

    def __init__(self, name: str, count: int, clock: Clock) -> None:
        self.name = name
        self.count = count
        self.seconds = 0.0
        self._clock = clock

    def __enter__(self) -> Self:
        gc.collect()
        gc.disable()
        self._start = self._clock()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = self._clock() - self._start
        gc.enable()


@dataclass(frozen=True)
class Summary:
    """A candidate's figures: µs per operation, and times the reference's.

    The ratio is the median of the rounds' own ratios: candidates that had their turns one
    after another shared the machine's mood.
    """

    median: float
    low: float
    high: float
    ratio: float | None


class Contest:
    """The turns of several candidates at the same thing.

    Use it as::

        for turn in contest.turns():
            with turn:
                candidates[turn.name].run(turn.count)

    Args:
        names: the candidates; the first is the reference for ratios.
        effort: how long to measure.
        count: operations per turn; None: as many as fit into ``effort.turn``.
        clock: what to measure by. CPU_TIME if one thread does all and waits for nothing:
            then it doesn't count what other programs on a busy machine take.
    """

    def __init__(
        self,
        names: list[str],
        effort: Effort,
        count: int | None = None,
        clock: Clock = perf_counter,
    ) -> None:
        self._names = names
        self._effort = effort
        self._clock = clock
        self._counts = dict.fromkeys(names, count or 0)
        self._samples: dict[str, list[float]] = {name: [] for name in names}

    def turns(self) -> Iterator[Turn]:
        """Yield a warm-up for each candidate, then round upon round, in either order."""
        for name in self._names:
            yield from self._warm_up(name)
        for number in range(self._effort.rounds):
            for name in self._names if number % 2 == 0 else reversed(self._names):
                turn = Turn(name, self._counts[name], self._clock)
                yield turn
                self._samples[name].append(turn.seconds / turn.count)

    def _warm_up(self, name: str) -> Iterator[Turn]:
        # The first turn of all opens connections and imports what is imported by need: it
        # says nothing about the next.
        yield Turn(name, self._counts[name] or 10, self._clock)
        if self._counts[name]:
            return
        count = 2
        while True:
            turn = Turn(name, count, self._clock)
            yield turn
            if turn.seconds * 3 >= self._effort.turn:
                break
            count *= 3
        self._counts[name] = max(1, round(count * self._effort.turn / turn.seconds))

    def summaries(self) -> dict[str, Summary]:
        """Sum the rounds up, one summary for each candidate."""
        return summarize(self._samples, self._names[0])


def summarize(samples: dict[str, list[float]], reference: str) -> dict[str, Summary]:
    """Sum up what was measured in rounds: seconds per operation, by candidate."""
    base = samples[reference]
    result = {}
    for name, times in samples.items():
        low, high = _middle_half(times)
        ratios = [time / own for time, own in zip(times, base, strict=True)]
        result[name] = Summary(
            median=median(times) * 1e6,
            low=low * 1e6,
            high=high * 1e6,
            ratio=median(ratios),
        )
    return result


def _middle_half(times: list[float]) -> tuple[float, float]:
    if len(times) < 2:
        return times[0], times[0]
    quartiles = quantiles(times, n=4, method="inclusive")
    return quartiles[0], quartiles[2]


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
