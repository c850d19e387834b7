"""Answers that hold for a time."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


class Recent(Generic[Key, T]):
    """Answers that hold for a time, so that not every request has to ask again.

    Several threads may use it: each step is one of the dictionary.

    Args:
        most: how many are kept; the oldest go first.
        ticks: seconds that never jump.
    """

    def __init__(self, most: int, ticks: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ticks = ticks
        self._answers: OrderedDict[Key, tuple[T, float]] = OrderedDict()

    def get(self, key: Key) -> T | None:
        """The answer, while it holds."""
        answer, until = self._answers.get(key, (None, 0.0))
        return answer if self._ticks() < until else None

    def forget(self, key: Key) -> None:
        """Keep no answer."""
        self._answers.pop(key, None)

    def put(self, key: Key, answer: T, seconds: float) -> None:
        """Keep an answer for so long."""
        self.forget(key)
        self._answers[key] = (answer, self._ticks() + seconds)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
