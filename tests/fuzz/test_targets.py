import json
from itertools import count, islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz.corpus import seeds
from bench.fuzz.structured import run_inputs
from bench.fuzz.target import REFUSED, TAKEN
from bench.fuzz.targets import TARGETS
from bench.fuzz.targets.iq import DATATYPES
from schemas.sigmf import Datatype
from tests.support.graphs import metadata
from worker.errors import JobError, MalformedIq
from worker.reading import read_sigmf
from worker.recording import decode_capture

INPUTS = 400
VALID = 3
VERDICTS = {TAKEN, REFUSED}

targets = pytest.mark.parametrize("name", TARGETS)
randoms = st.randoms(use_true_random=False)


@targets
def test_the_kept_corpus(name):
    """What once broke a reader, and what reaches far into it, ends as promised."""
    kept = seeds(name)
    assert kept
    assert {TARGETS[name].run(data) for data in kept} <= VERDICTS


@targets
@given(rng=randoms)
@settings(max_examples=60)
def test_any_input_ends_as_promised(name, rng):
    """Whatever is sent is taken, or refused by one of the errors that are promised; no other error escapes."""
    target = TARGETS[name]
    assert target.run(target.make(rng)) in VERDICTS


@targets
@given(data=st.binary(max_size=200))
@settings(max_examples=60)
def test_noise_ends_as_promised(name, data):
    """Bytes without any structure, too."""
    assert TARGETS[name].run(data) in VERDICTS


@targets
def test_numbered_inputs_stand_and_reach_both_ends(name):
    """Some of the inputs of `make fuzz` are taken and some refused, and none breaks a limit."""
    tally = run_inputs(name, islice(count(), INPUTS))
    assert tally.failures == []
    assert set(tally.verdicts) == VERDICTS
    assert min(tally.verdicts.values()) > INPUTS / 50


@targets
def test_sound_inputs_are_taken(name):
    """The generators make what the readers take: else they would test refusals alone."""
    target = TARGETS[name]
    assert {target.run(target.valid(Random(seed))) for seed in range(50)} == {TAKEN}


@pytest.mark.parametrize("name", ["sigmf", "json", "amqp", "control", "contract"])
def test_a_message_that_is_cut_short_is_refused(name):
    """A sound input cut at any byte is an error: these formats say where they end."""
    target = TARGETS[name]
    for seed in range(VALID):
        sound = target.valid(Random(seed))
        taken = [end for end in range(len(sound)) if target.run(sound[:end]) == TAKEN]
        assert taken == [], sound


@pytest.mark.parametrize("name", [datatype.name for datatype in DATATYPES])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_dataset_that_is_cut_short_is_refused_or_a_shorter_recording(name, channels):
    """A dataset says nowhere how long it is: cut after a whole sample it is a shorter one, elsewhere an error."""
    frame = Datatype.parse(name).sample_bytes * channels
    header = _header(name, channels)
    body = bytes(frame * 3)
    for end in range(len(body)):
        if end and end % frame == 0:
            assert read_sigmf(header, body[:end]).ranges == ((0, end // frame),)
        else:
            with pytest.raises(MalformedIq):
                read_sigmf(header, body[:end])


def test_a_dataset_whose_samples_are_named_does_not_end_before_them():
    """With `heimdall:samples` the metadata say how long it is: cut anywhere, it is an error."""
    header = _header("ci16_le", 2, **{"heimdall:samples": [{"sample_start": 1, "sample_count": 4}]})
    body = bytes(8 * 5)
    assert read_sigmf(header, body).ranges == ((1, 4),)
    for end in range(len(body)):
        with pytest.raises(MalformedIq):
            read_sigmf(header, body[:end])


@given(st.binary(max_size=300), st.sampled_from(["cf32_le", "cf64_be", "ci16_be", "cu8", "cu32_le"]))
@settings(max_examples=200)
def test_any_body_under_sound_metadata_is_decoded_or_refused(body, datatype):
    """A body is judged by its bytes alone; what is decoded has one row per channel."""
    try:
        recording = read_sigmf(_header(datatype, 2), body)
        samples = decode_capture(recording, 0).samples
    except JobError:
        return
    assert samples.shape == (2, len(body) // (Datatype.parse(datatype).sample_bytes * 2))


def _header(datatype, channels, **changes):
    return json.dumps(metadata(channels, **{"core:datatype": datatype} | changes))
