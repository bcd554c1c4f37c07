import json
import math

import numpy as np
import orjson
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rfc7946 import assert_rfc7946
from worker.geo.ellipse import ErrorEllipse, chi_square_scale, error_ellipses, principal_axes
from worker.geo.geojson import FixIdentity, feature_collections
from worker.geo.ring import RING_POINTS
from worker.geo.wgs84 import enu_to_wgs84

DRAWS = 20_000
IDENTITY = FixIdentity("job-7", 0, "session-1", "2024-05-01T12:00:00.123456789Z", "12")


def collection(latitude, longitude, ellipses, identity=IDENTITY):
    """The collection of one fix."""
    return plain(feature_collections([identity], [latitude], [longitude], [ellipses]))[0]


def plain(collections):
    """As a reader of the JSON gets them."""
    return orjson.loads(orjson.dumps(collections, option=orjson.OPT_SERIALIZE_NUMPY))


def polygon_coverage(confidence):
    """Probability of a normal error within the regular polygon inscribed in the circle of radius k.

    In polar coordinates the edge lies at k·cos(π/n)/cos φ; integrated over half of one edge by the midpoint rule.
    """
    half_edge = math.pi / RING_POINTS
    phi = (np.arange(1000) + 0.5) / 1000 * half_edge
    radius = float(chi_square_scale(confidence)) * math.cos(half_edge) / np.cos(phi)
    return float(1 - np.exp(-(radius**2) / 2).mean())


SITES = {
    "equator": (0.0, 0.0, 3000, 800, 30),
    "60 north": (60.0, 10.0, 5000, 400, 110),
    "60 north, metres": (60.0, 10.0, 2, 0.5, 110),
    "on the antimeridian": (10.0, 180.0, 2000, 900, 45),
    "east of the antimeridian": (-17.0, -179.999, 2000, 900, 80),
    "centimetres on the antimeridian": (45.0, -180.0, 0.01, 0.004, 45),
    "holding the north pole": (89.9, 30.0, 20_000, 15_000, 70),
    "holding the south pole": (-89.95, -120.0, 20_000, 15_000, 10),
    "on the pole": (90.0, 0.0, 1000, 700, 10),
    "near the pole": (89.9, 30.0, 1500, 600, 70),
    "near the pole on the antimeridian": (89.95, 178.0, 900, 500, 120),
}


@pytest.mark.parametrize("site", SITES)
def test_drawn_polygon_holds_the_share_it_claims(site):
    """Positions drawn from the covariance fall inside the drawn polygon as often as its confidence says."""
    latitude, longitude, major, minor, azimuth = SITES[site]
    turn = math.radians(azimuth)
    axis = np.array([[math.sin(turn), -math.cos(turn)], [math.cos(turn), math.sin(turn)]])
    covariance = axis @ np.diag([major**2, minor**2]) @ axis.T
    rng = np.random.default_rng(len(site))
    east, north = np.linalg.cholesky(covariance) @ rng.standard_normal((2, DRAWS))
    drawn_latitude, drawn_longitude = enu_to_wgs84(latitude, longitude, east, north)
    [ellipses] = error_ellipses(principal_axes(covariance[None]), [[0.3935, 0.68, 0.95]])
    features = collection(latitude, longitude, ellipses)["features"]
    for feature in features[:-1]:
        inside = shapely.contains_xy(shapely.geometry.shape(feature["geometry"]), drawn_longitude, drawn_latitude)
        expected = polygon_coverage(feature["properties"]["confidence"])
        assert inside.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / DRAWS)), feature[
            "id"
        ]


def test_polygon_coverage_is_just_below_the_confidence():
    """The reference of the test above lacks what an inscribed polygon lacks: under a thousandth."""
    area_ratio = RING_POINTS / (2 * math.pi) * math.sin(2 * math.pi / RING_POINTS)
    assert 0.9983 < area_ratio < 0.9985
    assert 0.9490 < polygon_coverage(0.95) < 0.95


@settings(max_examples=150, deadline=None)
@given(
    latitude=st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 89.99, -89.999999])),
    longitude=st.one_of(st.floats(-180, 180), st.sampled_from([180.0, -180.0, 179.9999999, -179.999])),
    major_exponent=st.floats(-5, 5.5),
    ratio_exponent=st.floats(-8, 0),
    azimuth=st.floats(0, 180, exclude_max=True),
)
def test_any_fix_gives_valid_geojson(latitude, longitude, major_exponent, ratio_exponent, azimuth):
    """Anywhere on Earth and from 10 µm to 300 km and however thin, a collection keeps RFC 7946 and survives JSON."""
    major, minor = 10**major_exponent, 10 ** (major_exponent + ratio_exponent)
    ellipses = [ErrorEllipse(major * k, minor * k, azimuth, k / 4) for k in (1.5, 2.4)]
    drawn = collection(latitude, longitude, ellipses)
    assert_rfc7946(drawn)
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn


def test_features_run_from_the_largest_ellipse_to_the_fix():
    """Ellipses come in falling confidence, then the fix, with ids of job, sample and percent."""
    ellipses = [ErrorEllipse(k * 20.0, k * 10.0, 40.0, p) for k, p in ((2, 0.68), (4, 0.995), (3, 0.95), (1, 0.29))]
    features = collection(45.0, 7.0, ellipses, FixIdentity("job", 3, None, None, "1"))["features"]
    assert [feature["id"] for feature in features] == [
        "job/3/ellipse-99.5",
        "job/3/ellipse-95",
        "job/3/ellipse-68",
        "job/3/ellipse-29",
        "job/3/fix",
    ]
    assert [feature["geometry"]["type"] for feature in features] == ["Polygon"] * 4 + ["Point"]


def test_properties_name_the_fix_and_its_ellipse():
    """An ellipse carries its identity, confidence and axes as given; the fix carries its identity."""
    ellipse, fix = collection(45.0, 7.0, [ErrorEllipse(200.0, 100.0, 40.0, 0.95)])["features"]
    identity = {
        "job_id": "job-7",
        "session_id": "session-1",
        "capture_time": "2024-05-01T12:00:00.123456789Z",
        "model_version": "12",
    }
    axes = {"confidence": 0.95, "semi_major_m": 200.0, "semi_minor_m": 100.0, "azimuth_deg": 40.0}
    assert ellipse["properties"].items() >= {"kind": "ellipse", **identity, **axes}.items()
    assert fix["properties"].items() >= {"kind": "fix", **identity}.items()
    assert {"stroke", "fill", "fill-opacity"} <= ellipse["properties"].keys()
    assert "marker-color" in fix["properties"]


def test_ring_has_64_points_and_one_closure():
    """A plain ellipse is one ring of 64 distinct positions, the first repeated once."""
    ellipse, _ = collection(45.0, 7.0, [ErrorEllipse(200.0, 100.0, 40.0, 0.95)])["features"]
    [ring] = ellipse["geometry"]["coordinates"]
    assert len(ring) == 65
    assert len({tuple(position) for position in ring}) == 64
    assert all(type(degrees) is float for position in ring for degrees in position)


def test_fix_is_longitude_then_latitude():
    """The point of the fix is (longitude, latitude) with six decimals, its longitude normalised."""
    drawn = collection(45.123456789, 367.123456789, [ErrorEllipse(200.0, 100.0, 40.0, 0.95)])
    assert drawn["features"][-1]["geometry"]["coordinates"] == [7.123457, 45.123457]


def test_fix_lies_within_its_tiny_ellipse():
    """A fix is written with the decimals of its smallest ellipse, so that it does not round out of it."""
    drawn = collection(45.123456789, 7.987654321, [ErrorEllipse(0.02, 0.01, 40.0, 0.95)])
    ellipse, fix = (shapely.geometry.shape(feature["geometry"]) for feature in drawn["features"])
    assert ellipse.contains(fix)


def test_equal_confidences_are_drawn_once():
    """A confidence asked twice gives one feature, so that ids stay unique."""
    drawn = collection(45.0, 7.0, [ErrorEllipse(200.0, 100.0, 40.0, 0.95)] * 2)
    assert_rfc7946(drawn)
    assert len(drawn["features"]) == 2


def test_ragged_batch_equals_each_fix_alone():
    """Fixes with different numbers of ellipses, some cut and some not, come out as they would alone."""
    places = [(45.0, 7.0), (10.0, 180.0), (90.0, 0.0), (-30.0, -70.0)]
    identities = [FixIdentity(f"job-{n}", n, None, None, "1") for n in range(4)]
    ellipses = [[ErrorEllipse(300.0 * k, 3.0 * k, 40.0, k / 10) for k in range(1, n + 2)] for n in range(4)]
    latitude, longitude = np.array(places).T
    together = plain(feature_collections(identities, latitude, longitude, ellipses))
    assert [len(drawn["features"]) for drawn in together] == [2, 3, 4, 5]
    for n, (place, drawn) in enumerate(zip(places, together, strict=True)):
        assert drawn == collection(*place, ellipses[n], identities[n])
        assert_rfc7946(drawn)


def test_cut_collection_has_a_box_across_the_antimeridian():
    """The box of a collection on ±180° has its west above its east, and two pieces per ellipse."""
    drawn = collection(10.0, 180.0, [ErrorEllipse(2000.0, 1000.0, 90.0, 0.95)])
    west, _, east, _ = drawn["bbox"]
    assert west == pytest.approx(180 - 2000 / 109_639, abs=1e-5)
    assert east == pytest.approx(-180 + 2000 / 109_639, abs=1e-5)
    assert drawn["features"][0]["geometry"]["type"] == "MultiPolygon"


@pytest.mark.parametrize(
    ("latitude", "longitude", "ellipses"),
    [
        (91.0, 0.0, [ErrorEllipse(2.0, 1.0, 0.0, 0.9)]),
        (math.nan, 0.0, [ErrorEllipse(2.0, 1.0, 0.0, 0.9)]),
        (0.0, math.inf, [ErrorEllipse(2.0, 1.0, 0.0, 0.9)]),
        (0.0, 0.0, []),
    ],
)
def test_what_cannot_be_drawn_is_refused(latitude, longitude, ellipses):
    """A position that is none, or a fix without an ellipse, is an error and not a strange map."""
    with pytest.raises(ValueError, match="each fix needs"):
        collection(latitude, longitude, ellipses)


def test_lengths_must_agree():
    """Identities, positions and ellipses of different numbers are refused."""
    with pytest.raises(ValueError, match="differ in number"):
        feature_collections([IDENTITY], [1.0, 2.0], [1.0, 2.0], [[ErrorEllipse(2.0, 1.0, 0.0, 0.9)]])


def test_empty_batch_gives_nothing():
    """No fixes, no collections."""
    assert feature_collections([], [], [], []) == []
