import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.dsp.crop_pad import crop_or_pad, kept


@pytest.mark.parametrize(
    ("available", "length", "place", "want"),
    [
        (5, 3, "start", [0, 1, 2]),
        (5, 3, "centre", [1, 2, 3]),
        (6, 3, "centre", [1, 2, 3]),
        (3, 3, "centre", [0, 1, 2]),
    ],
)
def test_crop_keeps_the_start_or_the_centre(available, length, place, want):
    """Cropping keeps the named part; an odd surplus goes from the end."""
    assert crop_or_pad(np.arange(available), length, place, "zeros").tolist() == want


@pytest.mark.parametrize(
    ("place", "mode", "want"),
    [
        ("start", "zeros", [1, 2, 3, 0, 0, 0]),
        ("centre", "zeros", [0, 1, 2, 3, 0, 0]),
        ("centre", "edge", [1, 1, 2, 3, 3, 3]),
        ("centre", "reflect", [2, 1, 2, 3, 2, 1]),
    ],
)
def test_pad_fills_as_the_mode_says(place, mode, want):
    """Padding goes to the end, or to both ends with the odd element last."""
    assert crop_or_pad(np.array([1, 2, 3]), 6, place, mode).tolist() == want


@given(
    st.integers(1, 9), st.integers(1, 40), st.sampled_from(["start", "centre"]), st.sampled_from(["reflect", "edge"])
)
def test_any_length_can_be_reached(available, length, place, mode):
    """Length and dtype are as asked, however much longer than the signal, and no foreign value appears."""
    x = np.arange(1, available + 1, dtype=np.complex64).reshape(1, -1)
    fitted = crop_or_pad(x, length, place, mode)
    assert fitted.shape == (1, length)
    assert fitted.dtype == np.complex64
    assert np.isin(fitted, x).all()


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["start", "centre"]))
def test_kept_is_what_a_crop_keeps(available, length, place):
    """The slice names the elements that survive a crop, all of them when there are too few."""
    x = np.arange(available)
    survivors = x[kept(available, length, place)]
    cropped = crop_or_pad(x, length, place, "zeros") if length <= available else x
    np.testing.assert_array_equal(survivors, cropped)


def test_length_below_one_is_refused():
    """Nothing can be cropped to nothing."""
    with pytest.raises(ValueError, match="length"):
        crop_or_pad(np.arange(3), 0, "start", "zeros")
