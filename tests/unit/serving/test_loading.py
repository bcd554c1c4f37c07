import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import (
    ANSWERS_NAN,
    LINEAR,
    Shape,
    contract,
    iq_golden,
    mel_input,
    record,
    tensor_golden,
    write,
)
from worker.errors import ModelRejected
from worker.serving.loading import batch_buckets, file_digest, load_version
from worker.serving.session import OnnxSession, SessionOptions


def load(directory, written, *, max_batch_size=4, require_golden=True):
    """Load what was written."""
    return load_version(
        directory, written, SessionOptions(), max_batch_size=max_batch_size, require_golden=require_golden
    )


def proven(**changes):
    """The plain contract with a golden vector of each kind."""
    document = contract(**changes)
    return document | {"golden": [iq_golden(document), tensor_golden()]}


def refusal(directory, shape, document, **options):
    """Why a version is rejected."""
    with pytest.raises(ModelRejected) as caught:
        load(directory, write(directory, shape, beside=document), **options)
    return caught.value.reason


def test_a_sound_version_is_loaded_proven_and_warm(tmp_path, monkeypatch):
    """Digest, contract, golden vectors and every batch bucket: then it may serve."""
    sizes = []
    run = OnnxSession.run

    def noted(self, outputs, feed):
        sizes.append(len(next(iter(feed.values()))))
        return run(self, outputs, feed)

    monkeypatch.setattr(OnnxSession, "run", noted)
    written = write(tmp_path, beside=proven())
    version = load(tmp_path, written, max_batch_size=6)
    assert version.digest == written.digest
    assert version.label == "7"
    assert sizes[-5:] == [1, 2, 4, 6, 6]
    assert len(sizes) == 2 + 5
    assert 0 < version.session.full_batch_s < float("inf")
    assert version.reference() == {
        "name": "heimdall",
        "version": "7",
        "digest": written.digest,
        "alias": "production",
    }


def test_the_contract_inside_serves_where_there_is_none_beside(tmp_path):
    """A file may carry its own contract."""
    version = load(tmp_path, write(tmp_path, inside=proven(card={"where": "inside"})))
    assert version.contract.card == {"where": "inside"}


def test_the_contract_beside_wins(tmp_path):
    """What the registry holds beside the model replaces what the file carries."""
    written = write(tmp_path, inside=proven(card={"where": "inside"}), beside=proven(card={"where": "beside"}))
    assert load(tmp_path, written).contract.card == {"where": "beside"}


def test_a_cache_belongs_to_model_and_contract(tmp_path):
    """Another contract for the same file is another scope: no output is shared between them."""
    scopes = set()
    for number, document in enumerate((proven(), proven(card={}), proven())):
        directory = tmp_path / str(number)
        directory.mkdir()
        scopes.add(load(directory, write(directory, beside=document)).cache_scope)
    assert len(scopes) == 2


def test_a_wrong_digest_is_rejected(tmp_path):
    """What was downloaded must be what was registered; both digests are shown."""
    write(tmp_path, beside=proven())
    with pytest.raises(ModelRejected, match="the registry says sha256:0000"):
        load(tmp_path, record("sha256:" + "0" * 64))


def test_a_version_without_digest_is_rejected(tmp_path):
    """Without the tag nothing can be verified."""
    write(tmp_path, beside=proven())
    with pytest.raises(ModelRejected, match=r"no tag heimdall\.digest"):
        load(tmp_path, record(None))


def test_a_missing_file_is_rejected(tmp_path):
    """A directory without a model is no version."""
    with pytest.raises(ModelRejected, match=r"model\.onnx cannot be read: No such file"):
        load(tmp_path, record("sha256:0"))


def test_a_file_digest_is_that_of_its_bytes(tmp_path):
    """sha256 in lower case, with its name before it."""
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == ("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


@pytest.mark.parametrize("beside", [None, ""])
def test_a_model_without_contract_is_rejected(tmp_path, beside):
    """Nobody can know how to feed it."""
    with pytest.raises(ModelRejected, match=r"no contract: neither contract\.json"):
        load(tmp_path, write(tmp_path, beside=beside))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("null", "does not validate"),
        ("[]", "does not validate"),
        (json.dumps(contract() | {"colour": 1}), "colour: Extra inputs"),
        (json.dumps(contract(min_samples=-1)), "min_samples"),
    ],
)
def test_a_contract_that_cannot_be_read_is_rejected(tmp_path, text, said):
    """The refusal names the field."""
    assert said in refusal(tmp_path, LINEAR, text)


def test_an_impossible_spectrogram_is_rejected(tmp_path):
    """Empty mel filters are found when the version is loaded."""
    inputs = contract()["inputs"] | {"mel": mel_input(mel_scale="htk", fmin=-1000, fmax=1000)}
    assert "features cannot be computed" in refusal(tmp_path, LINEAR, contract(inputs=inputs))


def test_a_graph_that_differs_from_its_contract_is_rejected(tmp_path):
    """The comparison of graph and contract is one of the steps."""
    assert "axis mel is 16" in refusal(tmp_path, Shape(mel_shape=("batch", 3, 16, 4)), proven())


def test_golden_vectors_are_required(tmp_path):
    """Nothing shows that a model without them computes what it should; a deployment may waive it."""
    assert "no golden vectors" in refusal(tmp_path, LINEAR, contract())
    assert load(tmp_path, write(tmp_path, beside=contract()), require_golden=False).contract.golden == []


@pytest.mark.parametrize(
    ("number", "path", "value", "said"),
    [
        (0, "expected/position", [45.0, 7.6], "golden[0], output position"),
        (1, "expected/position", [[45.0, 7.6]], "golden[1], output position"),
        (1, "expected/uncertainty", [[0.02, 0.01]], "golden[1], output uncertainty: 0.01 where 0.02 is expected"),
        (0, "expected/position", [[45.0, 7.6]], "the shape is [2], expected [1, 2]"),
        (1, "expected/position", [45.0, 7.6], "the shape is [1, 2], expected [2]"),
        (0, "expected/sigma", [1], "golden[0] cannot be run"),
        (0, "expected", {}, "golden[0] cannot be run"),
        (0, "body", "no base64!", "golden[0] cannot be run: body is no base64"),
        (0, "body", "AAAA", "golden[0] cannot be run: the body has 3 bytes"),
        (0, "sigmf", {}, "golden[0] cannot be run: global"),
        (1, "tensors/mel", [[1.0], [1.0, 2.0]], "golden[1] cannot be run"),
        (1, "tensors/mask", [[True, True]], "golden[1] cannot be run"),
        (1, "tensors", {"mel": [[0.0]]}, "golden[1] cannot be run: 'mask'"),
    ],
)
def test_a_golden_vector_that_is_not_met_is_rejected(tmp_path, number, path, value, said):
    """Wrong numbers, shapes, names and inputs: the refusal says which vector, and what is wrong."""
    document = proven()
    *parents, last = path.split("/")
    node = document["golden"][number]
    for part in parents:
        node = node[part]
    node[last] = value
    assert said in refusal(tmp_path, LINEAR, document)


def test_a_tolerance_is_kept(tmp_path):
    """The vector's rtol and atol decide what is near enough."""
    document = proven()
    document["golden"][1]["expected"]["uncertainty"] = [[0.0105, 0.02]]
    document["golden"][1] |= {"rtol": 0.0, "atol": 1e-3}
    load(tmp_path, write(tmp_path, beside=document))
    document["golden"][1] |= {"rtol": 0.0, "atol": 1e-4}
    assert "atol 0.0001" in refusal(tmp_path, LINEAR, document)


def test_a_model_that_answers_nan_is_rejected(tmp_path):
    """NaN meets no golden vector, not even one that expects nothing."""
    document = contract()
    document["golden"] = [iq_golden(document)]
    assert "golden[0], output position: nan where" in refusal(tmp_path, ANSWERS_NAN, document)
    document["golden"][0]["expected"]["position"] = [None, None]
    assert "golden[0], output position: nan where nan" in refusal(tmp_path, ANSWERS_NAN, document)


def test_a_model_that_cannot_take_a_whole_batch_is_rejected(tmp_path):
    """Warm-up runs every bucket up to the largest batch; the refusal says at which it broke."""
    shape = Shape(fails_from_batch=4)
    assert "warm-up with a batch of 4 failed" in refusal(tmp_path, shape, proven(), max_batch_size=8)
    load(tmp_path, write(tmp_path, shape, beside=proven()), max_batch_size=3)


@given(st.integers(1, 1024))
def test_buckets_cover_every_size_up_to_the_largest(largest):
    """Powers of two and the largest: each size has a bucket at most twice as large."""
    buckets = batch_buckets(largest)
    assert buckets == sorted(set(buckets))
    assert buckets[0] == 1
    assert buckets[-1] == largest
    assert all(after <= 2 * before for before, after in pairwise(buckets))


@pytest.mark.parametrize(
    ("changes", "golden"),
    [
        ({"area": {"type": "Polygon"}}, {}),
        ({"area": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}, {}),
        ({}, {"expected": {"position": [[1.0], [1.0, 2.0]]}}),
        ({}, {"expected": {"position": ["north"]}}),
        ({}, {"tensors": {"mel": [{}], "mask": [[True]]}}),
    ],
    ids=["area without coordinates", "area too short", "ragged expectation", "text expected", "object as tensor"],
)
def test_a_broken_document_is_a_refusal_not_a_crash(tmp_path, changes, golden):
    """Whatever stands in a contract, loading it ends with a version or with ModelRejected."""
    document = contract(**changes)
    document["golden"] = [tensor_golden() | golden]
    written = write(tmp_path, beside=document)
    with pytest.raises(ModelRejected):
        load(tmp_path, written)


def test_golden_tensors_are_in_the_graphs_own_axes(tmp_path):
    """Where a graph has other axes, its golden tensors have them, too."""
    shape = Shape(mel_shape=("batch", 4, 8, 3))
    inputs = contract()["inputs"] | {"mel": mel_input(axes=["batch", "frame", "mel", "receiver"])}
    document = contract(inputs=inputs)
    document["golden"] = [tensor_golden(shape)]
    load(tmp_path, write(tmp_path, shape, beside=document))


def test_a_version_whose_answers_cannot_be_read_is_rejected(tmp_path):
    """Four numbers per position cannot be read, so such a version must not serve."""
    shape = Shape(position_columns=4)
    golden = tensor_golden()
    golden["expected"] = {"uncertainty": golden["expected"]["uncertainty"]}
    with pytest.raises(ModelRejected):
        load(tmp_path, write(tmp_path, shape, beside=contract(golden=[golden])))
