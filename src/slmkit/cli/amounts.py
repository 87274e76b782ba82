"""Numbers on the command line that are no options of a model: checked where they enter."""

from __future__ import annotations

import argparse
import math


def count(text: str) -> int:
    """A whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def amount(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def giga(text: str) -> float:
    """A number above 0 and below a thousand million, given in thousand millions (GB, GB/s)."""
    if amount(text) >= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is more than any machine has; is it in GB?")
    return amount(text) * 1e9
