import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.time import format_datetime_ns, parse_datetime_ns

SECONDS_OF_9999 = 253_402_300_799
instants_ns = st.integers(
    min_value=int(datetime(1000, 1, 1, tzinfo=UTC).timestamp()) * 10**9, max_value=SECONDS_OF_9999 * 10**9 + 999_999_999
)


@given(instants_ns)
def test_what_is_written_reads_back_to_the_nanosecond(instant_ns):
    """Every nanosecond of the years 1000 to 9999 survives a round trip."""
    assert parse_datetime_ns(format_datetime_ns(instant_ns)) == instant_ns


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_a_zone_names_the_same_instant(local, minutes):
    """A local time with its offset is the instant that datetime computes, whatever the offset."""
    zone = timezone(timedelta(minutes=minutes))
    whole = local.replace(microsecond=0, tzinfo=zone)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_datetime_ns(whole.isoformat()) == (whole - epoch) // timedelta(seconds=1) * 10**9


@given(st.text("0123456789", min_size=1, max_size=18))
def test_fraction_digits_are_kept_to_the_ninth(digits):
    """Nanoseconds come from the digits themselves, never through a float; digits beyond the ninth are dropped."""
    expected = int((digits + "000000000")[:9])
    assert parse_datetime_ns(f"1970-01-01T00:00:00.{digits}Z") == expected


def test_nanoseconds_are_not_truncated_to_microseconds():
    """The last three digits, which Python's datetime has no room for, are there."""
    whole = int(datetime(2020, 1, 9, 15, 0, 2, tzinfo=UTC).timestamp())
    assert parse_datetime_ns("2020-01-09T15:00:02.123456789Z") == whole * 10**9 + 123_456_789


@pytest.mark.parametrize("text", ["2020-01-09T15:00:02", "2020-01-09t15:00:02z", "2020-01-09T16:30:02+01:30"])
def test_no_zone_means_utc_and_letters_may_be_small(text):
    """RFC 3339 allows small letters; SigMF has UTC where no zone is written."""
    assert parse_datetime_ns(text) == parse_datetime_ns("2020-01-09T15:00:02Z")


def test_instants_before_1970_are_negative():
    """A fraction counts forward also before the epoch."""
    assert parse_datetime_ns("1969-12-31T23:59:59.999999999Z") == -1
    assert format_datetime_ns(-1) == "1969-12-31T23:59:59.999999999Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020-01-09",
        "2020-01-09 15:00:02Z",
        "2020-13-09T15:00:02Z",
        "2020-01-09T25:00:02Z",
        "2020-01-09T15:00:61Z",
        "2020-01-09T15:00:02.Z",
        "2020-01-09T15:00:02.1234567890123456789Z",
        "2020-01-09T15:00:02+1:00",
        "2020-01-09T15:00:02+24:00",
        "٢٠٢٠-01-09T15:00:02Z",
        " 2020-01-09T15:00:02Z",
        "1578582002",
    ],
)
def test_what_is_no_instant_is_refused(text):
    """Dates alone, wrong fields, too many digits and other alphabets are refused."""
    with pytest.raises(ValueError, match=r".+"):
        parse_datetime_ns(text)


def test_a_line_feed_at_the_end_is_refused():
    """An instant ends with its last character."""
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_datetime_ns("2020-01-09T15:00:02Z\n")


def test_written_instants_have_nine_digits_and_z():
    """What is written is RFC 3339 in UTC with nine fraction digits, also for whole seconds."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", format_datetime_ns(0))
    assert format_datetime_ns(1_000_000_005) == "1970-01-01T00:00:01.000000005Z"
