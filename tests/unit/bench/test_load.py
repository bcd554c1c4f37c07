"""The load of the swaps, in its own process."""

import pytest

from bench.load import Body, running


def test_a_load_whose_process_has_ended_says_so():
    """Whoever waits for its answers does not wait for ever."""
    nobody = "amqp://guest:guest@127.0.0.1:1/"
    with running(nobody, [Body("{}", b"")], 1.0) as load, pytest.raises(RuntimeError, match="has ended"):
        load.stop()
