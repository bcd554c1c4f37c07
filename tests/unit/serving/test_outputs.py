import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import contract
from worker.geo.wgs84 import enu_to_wgs84, metres_per_degree
from worker.serving.contract import ModelContract
from worker.serving.outputs import expected_components, read_outputs

METRES = {
    "output": "p",
    "frame": "enu_m",
    "origin": {"latitude": 45, "longitude": 7},
    "axes": ["east", "north"],
}
ORIGIN = (45.0, 7.0)


def read(position, uncertainty, raw, uncertain, *, origins=None, confidence=None):
    """Read rows of outputs by a contract's position and uncertainty."""
    changes = {"confidence": {"output": "c"}} if confidence is not None else {}
    read_by = ModelContract.model_validate(
        contract(position=position, uncertainty={"output": "u"} | uncertainty, **changes)
    )
    outputs = {"p": np.asarray(raw, np.float32), "u": np.asarray(uncertain, np.float32)}
    if confidence is not None:
        outputs["c"] = np.asarray(confidence, np.float32)
    return read_outputs(read_by, outputs, origins or [ORIGIN] * len(raw))


def covariance_of(uncertainty, uncertain, *, axes=("east", "north"), **position):
    """The covariance in east, north of one item, in metres."""
    fixes = read(METRES | {"axes": list(axes)} | position, uncertainty, [[0, 0]], [uncertain])
    return fixes.covariance_m2[0]


@pytest.mark.parametrize(
    ("uncertainty", "uncertain", "expected"),
    [
        ({"kind": "sigma"}, [3, 4], [[9, 0], [0, 16]]),
        ({"kind": "sigma"}, [3], [[9, 0], [0, 9]]),
        ({"kind": "sigma", "of": "total"}, [4], [[8, 0], [0, 8]]),
        ({"kind": "sigma", "scale": 2}, [3, 4], [[36, 0], [0, 64]]),
        ({"kind": "variance"}, [3, 4], [[3, 0], [0, 4]]),
        ({"kind": "variance", "of": "total"}, [3, 4], [[1.5, 0], [0, 2]]),
        ({"kind": "variance", "of": "total"}, [3], [[1.5, 0], [0, 1.5]]),
        ({"kind": "log_variance"}, [0, math.log(5)], [[1, 0], [0, 5]]),
        ({"kind": "log_variance", "of": "total"}, [math.log(6)], [[3, 0], [0, 3]]),
        ({"kind": "log_variance", "of": "total", "scale": 3}, [math.log(6)], [[27, 0], [0, 27]]),
        ({"kind": "cholesky"}, [2, 3, 4], [[4, 6], [6, 25]]),
        ({"kind": "cholesky", "scale": 0.5}, [2, 3, 4], [[1, 1.5], [1.5, 6.25]]),
        ({"kind": "sigma_rho"}, [2, 3, 0.5], [[4, 3], [3, 9]]),
        ({"kind": "sigma_rho", "scale": 2}, [2, 3, -0.5], [[16, -12], [-12, 36]]),
    ],
)
def test_each_kind_of_uncertainty_is_read_as_it_was_trained(uncertainty, uncertain, expected):
    """The covariance by hand, for every kind, of an axis or of both together, recalibrated or not."""
    np.testing.assert_allclose(covariance_of(uncertainty, uncertain), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("uncertainty", "uncertain", "expected"),
    [
        ({"kind": "sigma"}, [3, 4], [[16, 0], [0, 9]]),
        ({"kind": "cholesky"}, [2, 3, 4], [[25, 6], [6, 4]]),
        ({"kind": "sigma_rho"}, [2, 3, -0.5], [[9, -3], [-3, 4]]),
    ],
)
def test_the_axes_order_of_the_position_is_that_of_the_uncertainty(uncertainty, uncertain, expected):
    """A model that answers north first has its covariance turned to east, north."""
    np.testing.assert_allclose(covariance_of(uncertainty, uncertain, axes=("north", "east")), expected, rtol=1e-6)


def test_the_positions_scale_applies_to_its_uncertainty():
    """z-scored outputs become metres by the target's deviation; a mirrored axis mirrors the correlation."""
    scaled = covariance_of({"kind": "sigma_rho"}, [2, 3, 0.5], scale=[10, -20], offset=[5, 5])
    np.testing.assert_allclose(scaled, [[400, -600], [-600, 3600]], rtol=1e-6)


def test_degrees_become_metres_at_the_latitude_of_the_fix():
    """A degree of longitude is shorter in the north: sigma in degrees is metres where the fix is."""
    position = {"output": "p", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]}
    fixes = read(position, {"kind": "sigma"}, [[0, 7], [60, 7]], [[0.01, 0.02]] * 2, origins=[None, None])
    for row, latitude in enumerate((0.0, 60.0)):
        north, east = metres_per_degree(latitude)
        np.testing.assert_allclose(
            fixes.covariance_m2[row], np.diag([(0.02 * east) ** 2, (0.01 * north) ** 2]), rtol=1e-6
        )
    assert fixes.covariance_m2[0, 0, 0] > 3.9 * fixes.covariance_m2[1, 0, 0]


def test_degrees_of_a_flat_plane_are_its_own_metres():
    """A model trained on a plane is read on the same plane."""
    position = {
        "output": "p",
        "frame": "delta_deg",
        "origin": "centroid",
        "axes": ["latitude", "longitude"],
        "metres_per_degree": [111_000, 78_000],
    }
    fixes = read(position, {"kind": "sigma"}, [[0.1, 0.2]], [[0.01, 0.02]])
    assert (fixes.latitude_deg[0], fixes.longitude_deg[0]) == pytest.approx((45.1, 7.2), abs=1e-7)
    np.testing.assert_allclose(fixes.covariance_m2[0], np.diag([1560.0**2, 1110.0**2]), rtol=1e-6)


@pytest.mark.parametrize("axes", [["latitude", "longitude"], ["longitude", "latitude"]])
def test_absolute_degrees_are_scaled_and_shifted_per_axis(axes):
    """Raw * scale + offset, in the model's own order of axes."""
    position = {"output": "p", "frame": "wgs84_deg", "axes": axes, "scale": [2, 4], "offset": [1, -1]}
    fixes = read(position, {"kind": "sigma"}, [[5, 10]], [[1, 1]], origins=[None])
    by_axis = dict(zip(axes, (11.0, 39.0), strict=True))
    assert (fixes.latitude_deg[0], fixes.longitude_deg[0]) == (by_axis["latitude"], by_axis["longitude"])


def test_relative_degrees_count_from_each_items_origin():
    """Items of one batch have their own centroids."""
    position = {"output": "p", "frame": "delta_deg", "origin": "centroid", "axes": ["longitude", "latitude"]}
    fixes = read(position, {"kind": "sigma"}, [[1, 2], [1, 2]], [[1, 1]] * 2, origins=[(45.0, 7.0), (-10.0, 179.5)])
    assert fixes.latitude_deg.tolist() == [47.0, -8.0]
    assert fixes.longitude_deg.tolist() == [8.0, -179.5]


@pytest.mark.parametrize("axes", [["east", "north"], ["north", "east"]])
def test_metres_are_moved_along_the_ellipsoid(axes):
    """East and north of the origin, in either order."""
    raw = [30_000.0, -20_000.0]
    moved = dict(zip(axes, raw, strict=True))
    fixes = read(METRES | {"axes": axes}, {"kind": "sigma"}, [raw], [[1, 1]])
    latitude, longitude = enu_to_wgs84(45.0, 7.0, moved["east"], moved["north"])
    assert (fixes.latitude_deg[0], fixes.longitude_deg[0]) == pytest.approx((float(latitude), float(longitude)))


def test_triangulation_is_read_exactly():
    """z-scored north, east on the flat plane of training; exp(log variance) is the total in z units."""
    position = {
        "output": "p",
        "frame": "enu_m",
        "origin": "centroid",
        "axes": ["north", "east"],
        "scale": [30_000, 40_000],
        "offset": [1_000, -2_000],
        "metres_per_degree": [111_000, 78_000],
    }
    fixes = read(position, {"kind": "log_variance", "of": "total"}, [[0.5, -0.25]], [[math.log(0.02)]])
    assert fixes.latitude_deg[0] == pytest.approx(45 + 16_000 / 111_000, abs=1e-9)
    assert fixes.longitude_deg[0] == pytest.approx(7 - 12_000 / 78_000, abs=1e-9)
    np.testing.assert_allclose(fixes.covariance_m2[0], np.diag([0.01 * 40_000**2, 0.01 * 30_000**2]), rtol=1e-6)


def test_a_single_uncertainty_may_lack_its_column_axis():
    """(B,) is as good as (B, 1)."""
    fixes = read(METRES, {"kind": "sigma"}, [[0, 0], [0, 0]], [2, 3])
    np.testing.assert_allclose(fixes.covariance_m2, [np.eye(2) * 4, np.eye(2) * 9])


@pytest.mark.parametrize(
    ("kind", "components"),
    [("sigma", (1, 2)), ("variance", (1, 2)), ("log_variance", (1, 2)), ("cholesky", (3,)), ("sigma_rho", (3,))],
)
def test_components_belong_to_their_kind(kind, components):
    """A diagonal has one or two numbers, a full covariance three."""
    document = contract(uncertainty={"output": "u", "kind": kind})
    assert expected_components(ModelContract.model_validate(document)) == components


@pytest.mark.parametrize(
    ("kind", "uncertain"),
    [
        ("variance", [[1.0, 0.5], [0.5, 1.0]]),
        ("sigma", [1.0, 0.5, 1.0]),
        ("cholesky", [[1.0, 0.0], [0.5, 1.0]]),
        ("cholesky", [1.0, 1.0]),
        ("sigma_rho", [1.0, 1.0]),
    ],
)
def test_other_components_are_refused_not_read_as_some(kind, uncertain):
    """A whole matrix for a diagonal would lose its correlation unseen."""
    with pytest.raises(ValueError, match=rf"output 'u' has {np.size(uncertain)} components; {kind} has"):
        read(METRES, {"kind": kind}, [[0, 0]], [uncertain])


def test_a_diagonal_has_no_negative_zero():
    """Nor where an axis is turned round by its scale: JSON would show it."""
    fixes = read(METRES | {"scale": [-1, 1]}, {"kind": "sigma"}, [[0, 0]], [[1, 1]])
    assert not np.signbit(fixes.covariance_m2).any()


@pytest.mark.parametrize(
    ("raw", "uncertainty", "uncertain", "confidence", "fault"),
    [
        ([2.2e7, 0], {"kind": "sigma"}, [1, 1], 0.5, "further from its origin"),
        ([0, -1e30], {"kind": "sigma"}, [1, 1], 0.5, "further from its origin"),
        ([math.nan, 0], {"kind": "sigma"}, [1, 1], 0.5, "not finite"),
        ([0, math.inf], {"kind": "sigma"}, [1, 1], 0.5, "not finite"),
        ([0, 0], {"kind": "sigma"}, [0, 1], 0.5, "not positive definite"),
        ([0, 0], {"kind": "sigma"}, [math.nan, 1], 0.5, "not positive definite"),
        ([0, 0], {"kind": "variance"}, [-1, 1], 0.5, "not positive definite"),
        ([0, 0], {"kind": "log_variance"}, [1000, 0], 0.5, "not positive definite"),
        ([0, 0], {"kind": "log_variance"}, [-1000, 0], 0.5, "not positive definite"),
        ([0, 0], {"kind": "cholesky"}, [1, 1, 0], 0.5, "not positive definite"),
        ([0, 0], {"kind": "sigma_rho"}, [1, 1, 1], 0.5, "not positive definite"),
        ([0, 0], {"kind": "sigma_rho"}, [1, 1, 1.5], 0.5, "not positive definite"),
        ([0, 0], {"kind": "sigma"}, [1, 1], 1.5, "not within 0..1"),
        ([0, 0], {"kind": "sigma"}, [1, 1], -0.1, "not within 0..1"),
        ([0, 0], {"kind": "sigma"}, [1, 1], math.nan, "not within 0..1"),
    ],
)
def test_what_is_no_fix_is_told_per_item(raw, uncertainty, uncertain, confidence, fault):
    """A faulty item has its reason; its neighbour in the batch is a fix."""
    good = {"cholesky": [1, 0, 1], "sigma_rho": [1, 1, 0]}.get(uncertainty["kind"], [1, 1])
    fixes = read(METRES, uncertainty, [raw, [0, 0]], [uncertain, good], confidence=[confidence, 0.5])
    assert fixes.faults[0] is not None
    assert fault in fixes.faults[0]
    assert fixes.faults[1] is None


def test_a_latitude_beyond_the_pole_is_a_fault():
    """Longitudes wrap, latitudes do not."""
    position = {"output": "p", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]}
    fixes = read(position, {"kind": "sigma"}, [[90.5, 7], [45, 367]], [[1, 1]] * 2, origins=[None, None])
    assert "no place on Earth (latitude 90.5)" in (fixes.faults[0] or "")
    assert fixes.faults[1] is None
    assert fixes.longitude_deg[1] == 7.0


def test_an_uncertainty_far_larger_than_the_earth_is_a_fault():
    """A result must not hold numbers that JSON cannot write: the area of such an ellipse is infinite."""
    fixes = read(METRES, {"kind": "log_variance"}, [[0, 0]], [[709, 709]])
    assert fixes.faults[0] is not None


def test_confidence_is_handed_on():
    """Where the contract names a confidence, it is read per item; else there is none."""
    sure = read(METRES, {"kind": "sigma"}, [[0, 0]] * 2, [[1, 1]] * 2, confidence=[[0.0], [1.0]])
    assert sure.confidence is not None
    assert sure.confidence.tolist() == [0.0, 1.0]
    assert sure.faults == (None, None)
    assert read(METRES, {"kind": "sigma"}, [[0, 0]], [[1, 1]]).confidence is None


sigmas = st.floats(0.1, 1e5)


@given(sigmas, sigmas, st.floats(-0.99, 0.99), st.sampled_from([["east", "north"], ["north", "east"]]))
def test_two_ways_to_write_a_covariance_agree(first, second, rho, axes):
    """Standard deviations with a correlation, and a Cholesky factor, of the same matrix are read alike."""
    lower = [first, rho * second, second * math.sqrt(1 - rho**2)]
    by_rho = covariance_of({"kind": "sigma_rho"}, [first, second, rho], axes=axes)
    by_factor = covariance_of({"kind": "cholesky"}, lower, axes=axes)
    np.testing.assert_allclose(by_rho, by_factor, rtol=1e-5, atol=1e-5 * first * second)
