"""The limits of a storm. People ask for more than those of a day allow, so each has to refuse."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.storm.vendor import JOB_SECONDS, Paid

PRICE = 10
"""What a job costs, in credits."""
MINUTE_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What people may buy. The people of a team pay with one wallet.

    The first person of each team has a limit of the day of their own, half of an equal share. Each
    of the others asks for so much that their team's limit has to refuse at least one job.

    Attributes:
        teams, people: how many there are, at least two people in each team.
        jobs: that all teams together may buy in a day.
        in_flight, of_a_person: jobs at the same time, of a wallet and of one person.
        per_minute: paid requests of a wallet.
    """

    teams: int
    people: int
    jobs: int
    in_flight: int
    of_a_person: int
    per_minute: int

    @property
    def of_a_team(self) -> int:
        """How many jobs a team may buy in a day."""
        return self.jobs // self.teams

    @property
    def of_the_first(self) -> int:
        """How many of them its first person may buy."""
        return self.jobs // self.people // 2

    @property
    def each_asks_for(self) -> int:
        """For how many jobs each person asks."""
        others = self.people // self.teams - 1
        return (self.of_a_team - self.of_the_first) // others + 1

    @property
    def asked(self) -> int:
        """For how many jobs all people ask."""
        return self.people * self.each_asks_for

    def person_of(self, paid: Paid) -> int:
        """The number of the person who has asked for a job."""
        return int(paid.body["seed"]) % self.people

    def figures(
        self, paid: Sequence[Paid], sent: Mapping[str, Sequence[float]]
    ) -> dict[str, float]:
        """How much of each limit was used at most, and how many limits were passed.

        Args:
            paid: every charge.
            sent: when the ledger says that each wallet's requests were sent, in seconds.
        """
        of_first = [each for each in paid if self.person_of(each) < self.teams]
        used = {
            "most jobs at once of a wallet": most_at_once(paid, lambda each: each.key),
            "most jobs at once of a person": most_at_once(paid, self.person_of),
            "most requests a minute of a wallet": max(map(most_a_minute, sent.values()), default=0),
            "most credits of a team": most_credits(paid, lambda each: each.key),
            "most credits of a first person": most_credits(of_first, self.person_of),
        }
        allowed = (
            *(self.in_flight, self.of_a_person, self.per_minute),
            *(self.of_a_team * PRICE, self.of_the_first * PRICE),
        )
        passed = sum(most > limit for most, limit in zip(used.values(), allowed, strict=True))
        return {"limits passed": passed, **used}


def most_at_once(paid: Iterable[Paid], whose: Callable[[Paid], Hashable]) -> int:
    """The largest number of jobs of one owner that PixelDojo was making at the same time.

    Args:
        whose: the owner of a job, such as the key that has paid for it.
    """
    starts_of: dict[Hashable, list[float]] = {}
    for each in paid:
        starts_of.setdefault(whose(each), []).append(each.began)
    seconds = sum(JOB_SECONDS)
    return max((_most_within(sorted(starts), seconds) for starts in starts_of.values()), default=0)


def most_a_minute(times: Iterable[float]) -> int:
    """The largest number of times within less than a minute."""
    return _most_within(sorted(times), MINUTE_SECONDS)


def _most_within(times: Sequence[float], seconds: float) -> int:
    """The largest number of times that one of them has less than so many seconds before it.

    Args:
        times: the earliest first.
    """
    first, most = 0, 0
    for number, at in enumerate(times):
        while times[first] + seconds <= at:
            first += 1
        most = max(most, number - first + 1)
    return most


def most_credits(paid: Iterable[Paid], whose: Callable[[Paid], Hashable]) -> float:
    """The most credits that one owner has paid."""
    sums = Counter[Hashable]()
    for each in paid:
        sums[whose(each)] += each.amount  # type: ignore[assignment] # credits may be fractions
    return max(sums.values(), default=0.0)
