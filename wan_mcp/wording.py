"""How numbers, nouns and spans of time are written in sentences for people and models."""

from decimal import Decimal


def number(value: float) -> str:
    """A number with every digit: no exponent, and no ".0" at the end of a whole number.

    15 significant digits, which is what a float can hold exactly.
    """
    return f"{Decimal(f'{value:.15g}'):f}"


def plural(noun: str, count: float) -> str:
    """The noun as it stands after that count: "1 job", "2 jobs", "0 jobs"."""
    return noun if count == 1 else f"{noun}s"


def counted(count: float, noun: str) -> str:
    """A count and its noun: "1 credit", "2.5 credits"."""
    return f"{number(count)} {plural(noun, count)}"


def is_or_are(count: float) -> str:
    """The verb after that count."""
    return "is" if count == 1 else "are"


def was_or_were(count: float) -> str:
    """The verb after that count, in the past."""
    return "was" if count == 1 else "were"


def duration(seconds: float) -> str:
    """A span of time, rounded down, in at most two units: 45 s, 2 min 5 s, 3 h 10 min."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def megabytes(size: int) -> str:
    """A number of bytes in whole megabytes (10^6), at least 1: "120 MB"."""
    return f"{max(size // 10**6, 1)} MB"
