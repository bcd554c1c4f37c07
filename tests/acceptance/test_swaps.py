"""The short form of `make swaps`: five changes of the model under load on two workers."""

import asyncio
import sys

from bench.swaps import measure


async def test_five_swaps_under_load() -> None:
    """No job is lost, refused, answered with an error, or by anything but the version that its answer names."""
    figures = await asyncio.to_thread(measure, 5)
    sys.stdout.write(figures.line() + "\n")
    assert figures.swaps == 5
    assert figures.jobs > 0
    assert (figures.lost, figures.refused, figures.errors, figures.mixed) == (0, 0, 0, 0)
