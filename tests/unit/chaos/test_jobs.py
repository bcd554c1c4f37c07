"""Jobs of the load: each its own input, each with an answer that shows whose it is."""

from bench.chaos.jobs import LONGITUDE_DEG, TOLERANCE_DEG, number_of, stamp
from bench.chaos.site import make_bodies
from tests.support.models import expected_position


def test_every_job_is_its_own_input() -> None:
    """Stamped bodies differ, and decode to samples that are finite."""
    base = make_bodies().raw()[0]
    stamped = {stamp(base, number) for number in (*range(300), 2**16, 2**24 - 1)}
    assert len(stamped) == 302
    assert all(len(body) == len(base) for body in stamped)


def test_an_answer_shows_whose_it_is() -> None:
    """The position of a stamped body fits its own number and that of no other body."""
    bodies = make_bodies()
    for number in (0, 1, 5, 1_000_003):
        body = stamp(bodies.raw()[number % len(bodies.bases)], number)
        latitude, longitude = expected_position(body, "cf32_le", 1)
        answer = {"position": {"latitude": latitude, "longitude": longitude}}
        assert bodies.fits(number, answer)
        assert not any(bodies.fits(number + other, answer) for other in range(1, len(bodies.bases)))
    gaps = [abs(one - other) for one, other in zip(bodies.shifts_deg, bodies.shifts_deg[1:], strict=False)]
    assert min(gaps) > 3 * TOLERANCE_DEG
    assert not bodies.fits(0, {"position": {"longitude": LONGITUDE_DEG + 1.0}})


def test_numbers_of_ids() -> None:
    """The number of a job is the last part of its id."""
    assert number_of("load-3-0000042") == 42
    assert number_of("somebody-else") == -1
