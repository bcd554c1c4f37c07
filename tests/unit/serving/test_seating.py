import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.geo import Point, Receiver
from tests.support.graphs import contract
from worker.errors import MalformedMetadata, ReceiverMismatch, SampleRateMismatch, TooFewSamples
from worker.geo.wgs84 import enu_to_wgs84
from worker.recording import Recording
from worker.serving.contract import ModelContract
from worker.serving.seating import Admission

SLOTS = {
    "slots": [
        {"id": "Torino", "geolocation": {"type": "Point", "coordinates": [7.672, 45.044]}},
        {"id": "Genova", "geolocation": {"type": "Point", "coordinates": [8.956, 44.395]}},
        {"id": "Milano", "geolocation": {"type": "Point", "coordinates": [9.123, 45.478]}},
    ]
}
CENTROID = {"output": "position", "frame": "delta_deg", "origin": "centroid", "axes": ["latitude", "longitude"]}


def receiver(name, longitude=7.6, latitude=45.0, **fields):
    """A receiver at a place."""
    return Receiver(id=name, geolocation=Point(coordinates=(longitude, latitude)), **fields)


def recording(receivers=(), *, channels=None, count=512, rate=48_000.0, ranges=None):
    """A recording as admission sees it: without its bytes."""
    return Recording(
        datatype=None,
        body=b"",
        channels=channels if channels is not None else max(1, len(receivers)),
        ranges=ranges or ((0, count),),
        batch=ranges is not None,
        sample_rate=rate,
        center_frequency_hz=None,
        capture_time=None,
        receivers=tuple(receivers),
    )


def admission(**changes):
    """Admission by the plain contract with changes."""
    return Admission(ModelContract.model_validate(contract(**changes)))


def no_powers():
    """Powers that nobody may ask for."""
    raise AssertionError("powers were asked for although every channel has a row")


@pytest.mark.parametrize(
    ("rate", "taken"), [(48_000.0, True), (48_048.0, True), (47_952.0, True), (48_049.0, False), (47_951.0, False)]
)
def test_the_rate_may_be_a_thousandth_off(rate, taken):
    """Up to 0.1 % off is taken; beyond, the refusal names the rate that is right."""
    check = admission().check
    if taken:
        check(recording(rate=rate))
    else:
        with pytest.raises(SampleRateMismatch, match="48000 Hz") as caught:
            check(recording(rate=rate))
        assert caught.value.errors[0].expected == 48_000.0


def test_a_rate_is_needed_where_neither_side_has_one():
    """A job may leave the rate to a model that has one, and any rate suits a model that has none."""
    admission().check(recording(rate=None))
    admission(sample_rate=None).check(recording(rate=123.0))
    with pytest.raises(MalformedMetadata, match="sample_rate is missing"):
        admission(sample_rate=None).check(recording(rate=None))


def test_each_sample_has_the_least_length():
    """A short sample is named by its index, with the number that is needed."""
    admission().check(recording(count=160))
    with pytest.raises(TooFewSamples, match="sample 1 has 159 samples per receiver") as caught:
        admission().check(recording(ranges=((0, 160), (160, 159))))
    assert caught.value.errors[0].expected == 160


def test_too_few_receivers_are_refused():
    """min_present counts channels."""
    strict = admission(receivers={"set": {"max": 3}, "min_present": 2})
    strict.check(recording(channels=2))
    with pytest.raises(ReceiverMismatch, match="at least 2 receivers, the job has 1"):
        strict.check(recording(channels=1))


def test_receivers_are_named_where_the_model_looks_at_them():
    """A job without receivers suits only a model that does not ask where they stand."""
    admission().check(recording())
    for changes in ({"receivers": SLOTS}, {"position": CENTROID}):
        with pytest.raises(ReceiverMismatch, match="heimdall:receivers"):
            admission(**changes).check(recording())
    with pytest.raises(ReceiverMismatch, match="dBm"):
        admission(level="dbm").check(recording())


def test_a_model_in_dbm_needs_the_level_of_each_receiver():
    """full_scale_dbm turns full scale into a power; one that is missing is named."""
    strict = admission(level="dbm")
    strict.check(recording([receiver("a", full_scale_dbm=-20)]))
    with pytest.raises(ReceiverMismatch, match=r"receivers\[1\] \(b\) states no full_scale_dbm"):
        strict.check(recording([receiver("a", full_scale_dbm=-20), receiver("b")]))


def test_swapped_coordinates_are_told_apart():
    """A receiver far from the model's area probably has latitude first: the refusal says so."""
    admission().check(recording([receiver("a", 7.6, 45.0)]))
    with pytest.raises(ReceiverMismatch, match="longitude comes first"):
        admission().check(recording([receiver("a", 45.0, 7.6)]))


@pytest.mark.parametrize(("km", "taken"), [(480, True), (520, False)])
def test_receivers_may_stand_500_km_outside_the_area(km, taken):
    """The area's own edge is what the distance counts from."""
    latitude, longitude = enu_to_wgs84(47.0, 7.6, 0.0, km * 1000.0)
    far = recording([receiver("a", float(longitude), float(latitude))])
    if taken:
        admission().check(far)
    else:
        with pytest.raises(ReceiverMismatch, match=f"{km} km"):
            admission().check(far)


def test_an_area_at_the_antimeridian_has_no_far_side():
    """Eleven kilometres beyond ±180° are eleven kilometres, and 180° east is 180° west."""
    at_seam = admission(area=[170.0, -20.0, 180.0, -10.0])
    at_seam.check(recording([receiver("a", -179.9, -15.0)]))
    places = np.array([-180.0, 179.9, -179.9, 180.0])
    assert at_seam.outside_area(np.full(4, -15.0), places).tolist() == [False, False, True, False]
    with pytest.raises(ReceiverMismatch, match=r"53\d km"):
        at_seam.check(recording([receiver("a", -175.0, -15.0)]))


def test_without_an_area_receivers_stand_anywhere():
    """A model that states no area knows no far away."""
    anywhere = admission(area=None)
    anywhere.check(recording([receiver("a", -170.0, -80.0)]))
    assert not anywhere.outside_area(np.array([0.0, 80.0]), np.array([0.0, 179.0])).any()


def test_a_position_outside_the_area_is_flagged():
    """Area as a box or as a polygon: what lies on its edge is inside."""
    ring = [[5.0, 43.0], [10.0, 43.0], [10.0, 47.0], [5.0, 47.0], [5.0, 43.0]]
    for area in ([5.0, 43.0, 10.0, 47.0], {"type": "Polygon", "coordinates": [ring]}):
        outside = admission(area=area).outside_area(np.array([45.0, 48.0, 47.0]), np.array([7.6, 7.6, 5.0]))
        assert outside.tolist() == [False, True, False]


def test_slots_are_found_by_id():
    """Channels take the row of their receiver's slot, whatever their order; absent slots stay empty."""
    seats = admission(receivers=SLOTS).seat([receiver("Milano"), receiver("Torino")], 2, no_powers)
    assert seats.channels == (1, -1, 0)
    assert [rows.tolist() for rows in seats.occupied] == [[0, 2], [1, 0]]
    assert seats.ignored == ()
    assert seats.origin is None


def test_an_unknown_receiver_is_refused_by_name():
    """The refusal says who is known."""
    with pytest.raises(ReceiverMismatch, match=r"receivers\[0\] \(Roma\) is not known.*Torino, Genova, Milano"):
        admission(receivers=SLOTS).check(recording([receiver("Roma")]))


@pytest.mark.parametrize(("off_m", "taken"), [(190.0, True), (210.0, False)])
def test_a_receiver_stands_where_the_model_was_trained_with_it(off_m, taken):
    """200 m are tolerated; beyond, the model would place the transmitter wrongly."""
    latitude, longitude = enu_to_wgs84(45.044, 7.672, off_m, 0.0)
    moved = recording([receiver("Torino", float(longitude), float(latitude))])
    if taken:
        admission(receivers=SLOTS).check(moved)
    else:
        with pytest.raises(ReceiverMismatch, match="stands 210 m from where"):
            admission(receivers=SLOTS).check(moved)


def test_an_id_outside_the_table_is_refused_unless_the_contract_has_a_number_for_it():
    """Integer identities come from the contract's table alone."""
    ids = {"feature": "receiver_ids", "dtype": "int64", "axes": ["batch", "receiver"]}
    table = {f"r{i}": i for i in range(10)}
    with pytest.raises(ReceiverMismatch, match=r"known are r0, .*… \(10\)"):
        admission(inputs={"ids": ids | {"table": table}}).check(recording([receiver("x")]))
    admission(inputs={"ids": ids | {"table": table, "unknown": 99}}).check(recording([receiver("x")]))


def test_the_strongest_of_a_set_are_kept_in_channel_order():
    """With more channels than rows the weakest go, and are named with the reason."""
    names = [receiver(name) for name in "abcde"]
    seats = admission().seat(names, 5, lambda: np.array([1.0, 5.0, 2.0, 4.0, 3.0]))
    assert seats.channels == (1, 3, 4)
    assert seats.ignored == (
        ("a", "the model takes 3 receivers: the strongest were kept"),
        ("c", "the model takes 3 receivers: the strongest were kept"),
    )


def test_equal_powers_keep_the_first():
    """The choice among equals is the same every time."""
    assert admission().seat([], 5, lambda: np.ones(5)).channels == (0, 1, 2)


def test_channels_without_names_are_named_by_number():
    """A job that names no receivers still learns which channel was left out."""
    assert [name for name, _ in admission().seat([], 4, lambda: np.arange(4.0)).ignored] == ["channel 0"]


def test_powers_are_asked_only_when_they_decide():
    """With a row for every channel nobody computes powers."""
    seats = admission().seat([], 2, no_powers)
    assert seats.channels == (0, 1, -1)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_reseating_gives_the_seats_again(powers):
    """Seats can be told from the channels alone, without the powers that chose them."""
    names = [receiver(f"r{i}", 7.0 + i / 10, 45.0) for i in range(len(powers))]
    by_power = admission(position=CENTROID)
    seats = by_power.seat(names, len(powers), lambda: np.asarray(powers))
    assert by_power.reseat(names, len(powers), seats.channels) == seats


def test_the_centroid_is_of_the_receivers_that_are_seated():
    """Relative positions count from the mean of those that take part; fixed origins stay."""
    names = [receiver("a", 7.0, 44.0), receiver("b", 8.0, 45.0), receiver("c", 9.0, 46.0), receiver("d", 0.0, 0.0)]
    seats = admission(position=CENTROID).seat(names, 4, lambda: np.array([2.0, 2.0, 2.0, 1.0]))
    assert seats.origin == (45.0, 8.0)
    fixed = CENTROID | {"origin": {"latitude": 1.0, "longitude": 2.0}}
    assert admission(position=fixed).seat(names, 4, lambda: np.ones(4)).origin == (1.0, 2.0)
    assert admission().seat(names, 4, lambda: np.ones(4)).origin is None


@pytest.mark.parametrize(
    ("capacity", "present", "few"), [(3, 2, True), (3, 3, False), (7, 2, True), (2, 2, False), (1, 1, False)]
)
def test_few_receivers_are_fewer_than_three_of_a_model_that_could_take_them(capacity, present, few):
    """Two receivers leave an ambiguity; a model made for one or two never gets more."""
    seats = admission(receivers={"set": {"max": capacity}}).seat([], present, no_powers)
    assert seats.few is few
