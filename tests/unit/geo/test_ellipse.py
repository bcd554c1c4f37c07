import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.geo.ellipse import (
    ErrorEllipse,
    PrincipalAxes,
    chi_square_scale,
    error_ellipses,
    is_positive_definite,
    principal_axes,
)


def covariance(major, minor, theta_deg):
    """Covariance whose major axis lies theta_deg counter-clockwise from east."""
    theta = np.radians(theta_deg)
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    matrix = rotation @ np.diag([major**2, minor**2]) @ rotation.T
    matrix[0, 1] = matrix[1, 0]
    return matrix


@pytest.mark.parametrize(
    ("confidence", "k"),
    [(0.5, 1.1774), (0.68, 1.5096), (0.6827, 1.5152), (0.9, 2.1460), (0.95, 2.4477), (0.99, 3.0349)],
)
def test_scale_matches_published_table(confidence, k):
    """The factor from 1 sigma to a confidence is the chi-square quantile with two degrees of freedom."""
    assert float(chi_square_scale(confidence)) == pytest.approx(k, abs=1e-4)


def test_one_sigma_holds_39_percent():
    """The 1-sigma ellipse of two dimensions holds 39.35 %, not 68 %."""
    assert float(chi_square_scale(1 - math.exp(-0.5))) == pytest.approx(1, rel=1e-15)


def test_scale_keeps_its_digits_for_small_confidences():
    """A tiny confidence gives k = sqrt(2p) and not a rounded zero."""
    assert float(chi_square_scale(1e-20)) == pytest.approx(math.sqrt(2e-20), rel=1e-12)


@pytest.mark.parametrize("confidence", [0, -0.1, 0.9991, 1, math.nan, [0.5, 1.0]])
def test_scale_refuses_what_is_no_confidence(confidence):
    """Confidences outside (0, 0.999] and NaN are refused."""
    with pytest.raises(ValueError, match="confidence"):
        chi_square_scale(confidence)


@pytest.mark.parametrize(
    ("theta_deg", "azimuth_deg"),
    [(0, 90), (30, 60), (45, 45), (90, 0), (-45, 135), (-60, 150), (-89, 179)],
)
def test_angles_follow_their_conventions(theta_deg, azimuth_deg):
    """Theta runs counter-clockwise from east in (-90, 90], azimuth clockwise from north in [0, 180)."""
    axes = principal_axes(covariance(200, 50, theta_deg)[None])
    assert axes.theta_deg[0] == pytest.approx(theta_deg, abs=1e-9)
    assert axes.azimuth_deg[0] == pytest.approx(azimuth_deg, abs=1e-9)
    assert axes.sigma_major_m[0] == pytest.approx(200)
    assert axes.sigma_minor_m[0] == pytest.approx(50)


@pytest.mark.parametrize("en", [0.0, -0.0, -5e-324])
def test_northward_axis_has_theta_plus_90(en):
    """A major axis due north has theta +90 and azimuth 0 whatever the sign of a vanishing covariance."""
    axes = principal_axes([[[1.0, en], [en, 4.0]]])
    assert axes.theta_deg.tolist() == [90.0]
    assert axes.azimuth_deg.tolist() == [0.0]


@pytest.mark.parametrize("variance", [1e-300, 0.1, 3.0, 1e300])
def test_circle_has_azimuth_zero_and_equal_axes(variance):
    """An exactly circular covariance gives azimuth 0 and two equal axes at any scale."""
    axes = principal_axes([[[variance, 0.0], [0.0, variance]]])
    assert axes.azimuth_deg.tolist() == [0.0]
    assert axes.theta_deg.tolist() == [90.0]
    assert axes.sigma_major_m[0] == axes.sigma_minor_m[0] == pytest.approx(math.sqrt(variance))


@pytest.mark.parametrize("theta_deg", [0, 20, 45, 90, -70])
def test_needle_keeps_its_short_axis(theta_deg):
    """With axes of 1 km and 1 mm the short axis survives the cancellation in the determinant."""
    axes = principal_axes(covariance(1e3, 1e-3, theta_deg)[None])
    assert axes.sigma_minor_m[0] == pytest.approx(1e-3, rel=1e-3)
    assert axes.sigma_major_m[0] == pytest.approx(1e3, rel=1e-12)


@pytest.mark.parametrize("variances", [(1e10, 1e-8), (1e-8, 1e10)])
def test_axis_aligned_needle_is_exact(variances):
    """Without covariance both axes are the exact roots of the variances, however different they are."""
    axes = principal_axes([np.diag(variances)])
    assert axes.sigma_minor_m[0] == pytest.approx(1e-4, rel=1e-15)
    assert axes.sigma_major_m[0] == pytest.approx(1e5, rel=1e-15)


@given(
    major=st.floats(1e-3, 1e6), ratio=st.floats(1e-3, 1), theta_deg=st.floats(-90, 90), exponent=st.integers(-200, 200)
)
def test_axes_are_eigenvalues(major, ratio, theta_deg, exponent):
    """Both axes are the roots of the eigenvalues that LAPACK finds, at any scale of the variances."""
    matrix = covariance(major, major * ratio, theta_deg)
    eigenvalues = np.linalg.eigvalsh(matrix)
    axes = principal_axes(np.ldexp(matrix, 2 * exponent)[None])
    scale = math.ldexp(1, exponent)
    assert axes.sigma_major_m[0] == pytest.approx(math.sqrt(eigenvalues[1]) * scale, rel=1e-12)
    assert axes.sigma_minor_m[0] == pytest.approx(math.sqrt(eigenvalues[0]) * scale, rel=1e-7)
    assert axes.sigma_minor_m[0] <= axes.sigma_major_m[0]


@given(major=st.floats(1, 1e6), ratio=st.floats(1e-3, 0.99), theta_deg=st.floats(-90, 90))
def test_major_axis_points_along_the_largest_variance(major, ratio, theta_deg):
    """The variance along the azimuth is the largest one, and both angles name the same line."""
    matrix = covariance(major, major * ratio, theta_deg)
    axes = principal_axes(matrix[None])
    azimuth = np.radians(axes.azimuth_deg[0])
    direction = np.array([np.sin(azimuth), np.cos(azimuth)])
    assert direction @ matrix @ direction == pytest.approx(major**2, rel=1e-9)
    assert 0 <= axes.azimuth_deg[0] < 180
    assert -90 < axes.theta_deg[0] <= 90
    assert (axes.azimuth_deg[0] + axes.theta_deg[0]) % 180 == pytest.approx(90, abs=1e-9)


def test_batch_rows_do_not_touch_each_other():
    """Each row of a batch gives the same bits as the row alone."""
    batch = np.array([covariance(10, 3, 12), covariance(1e4, 1, -80), covariance(5, 5, 0)])
    together = principal_axes(batch)
    for row, matrix in enumerate(batch):
        alone = principal_axes(matrix[None])
        assert alone.sigma_minor_m[0] == together.sigma_minor_m[row]
        assert alone.azimuth_deg[0] == together.azimuth_deg[row]


def test_positive_definite_covariances_pass():
    """Ordinary, elongated and extremely scaled covariances count as positive definite."""
    batch = [covariance(10, 3, 12), covariance(1e3, 1e-3, 0), covariance(1e3, 1e-3, 33), np.eye(2) * 1e-300]
    assert is_positive_definite(batch).tolist() == [True] * 4


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 2], [2, 1]],
        [[2, 2], [2, 2]],
        [[0, 0], [0, 1]],
        [[0, 0], [0, 0]],
        [[-1, 0], [0, -1]],
        [[1, 0], [0.1, 1]],
        [[math.nan, 0], [0, 1]],
        [[1, 0], [0, math.inf]],
        [[1, math.nan], [math.nan, 1]],
    ],
)
def test_what_is_no_covariance_fails(matrix):
    """Indefinite, singular, negative, asymmetric and non-finite matrices are told apart within a batch."""
    assert is_positive_definite([matrix, np.eye(2)]).tolist() == [False, True]


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_rank_one_covariance_fails(east, north):
    """The outer product of a vector with itself is singular, however its elements are rounded."""
    assert not is_positive_definite(np.outer([east, north], [east, north])[None])[0]


def test_ellipses_scale_with_each_confidence():
    """Each fix gets its own confidences in the order asked, with axes k times 1 sigma."""
    axes = principal_axes([covariance(10, 5, 30), covariance(100, 20, -30)])
    ellipses = error_ellipses(axes, [[0.95], [0.5, 0.9]])
    assert [[e.confidence for e in of_fix] for of_fix in ellipses] == [[0.95], [0.5, 0.9]]
    assert ellipses[0][0].semi_major_m == pytest.approx(24.477, abs=1e-3)
    assert ellipses[1][1].semi_minor_m == pytest.approx(42.919, abs=1e-3)
    assert ellipses[1][0].azimuth_deg == pytest.approx(120)


def test_ellipses_need_a_list_of_confidences_for_each_fix():
    """A batch and its confidences of different lengths are refused."""
    one = np.ones(1)
    with pytest.raises(ValueError, match="shorter"):
        error_ellipses(PrincipalAxes(one, one, one, one), [])


def test_area_is_that_of_an_ellipse():
    """The area is pi times both half axes."""
    assert ErrorEllipse(2.0, 0.5, 0.0, 0.9).area_m2 == pytest.approx(math.pi)
