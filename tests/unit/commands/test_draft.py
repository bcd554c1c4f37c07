"""Drafts of `heimdall model init`: what the graph tells is right, what it cannot tell is asked for."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.families import SET_FAMILIES, family
from worker.commands.candidate import Candidate
from worker.commands.draft import draft
from worker.commands.examine import examine
from worker.commands.findings import Status
from worker.commands.onnx_file import OnnxFile, Tensor, read_onnx
from worker.serving.contract import ModelContract

DEMO = Path(__file__).parents[3] / "examples/models/torino.onnx"
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def drafted(directory, graph):
    """The draft of a graph."""
    onnx.save(graph, directory / "model.onnx")
    return draft(read_onnx(directory / "model.onnx"))


def fill_in(document, place, right):
    """Answer a question with what stands at its place in the right contract."""
    *parents, last = place.split("/")
    for part in parents:
        document, right = (node[int(part) if isinstance(node, list) else part] for node in (document, right))
    last = int(last) if isinstance(document, list) else last
    document[last] = right[last]


@pytest.mark.parametrize("name", SET_FAMILIES)
def test_a_family_needs_its_open_questions_answered_and_nothing_else(tmp_path, name):
    """With the answers, its rate, level and golden vectors, the draft passes as the right contract does."""
    known = family(name)
    found = drafted(tmp_path, known.graph)
    assert found.family is not None
    for place in (*found.missing, "sample_rate", "area", "level", "golden"):
        fill_in(found.document, place, known.document())
    del found.document["card"]
    (tmp_path / "contract.json").write_text(json.dumps(found.document))
    report = examine(Candidate(name, tmp_path / "model.onnx", tmp_path / "contract.json"), 8)
    failed = [f for f in report.findings if f.status is Status.FAIL]
    # This stand-in weighs receivers by their power, and has no answer where there is none.
    expected = ["silence, 1 receiver", "silence, 10 receivers"] if name == "heimdall_net" else None
    assert [f.figures.get("items") for f in failed] == ([expected] if expected else []), failed


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("localization_net", set()),
        ("heimdall_net", {"inputs/iq_data/length", "receivers/set/max"}),
        (
            "triangulation_model",
            {
                "receivers/set/max",
                "inputs/receiver_features/columns/3/offset",
                "inputs/receiver_features/columns/3/scale",
                "inputs/receiver_features/columns/4/offset",
                "inputs/receiver_features/columns/4/scale",
                "position/scale",
                "position/offset",
            },
        ),
    ],
)
def test_a_family_asks_only_for_what_differs_between_trainings(tmp_path, name, missing):
    """Everything else is filled in from what is known of it."""
    assert set(drafted(tmp_path, family(name).graph).missing) == missing


def test_the_receiver_axis_is_found_by_the_mask(tmp_path):
    """Where the mask says seven, the axis of seven is that of the receivers, also in the last place."""
    found = drafted(tmp_path, family("slot_net").graph).document
    spectrogram = found["inputs"]["spectrogram"]
    assert spectrogram["axes"] == ["batch", "mel", "frame", "receiver"]
    assert (spectrogram["n_mels"], spectrogram["frames"]["count"]) == (32, 24)
    assert found["receivers"]["set"]["max"] == 7
    assert found["uncertainty"] == {"output": "factor", "kind": "cholesky", "of": "axis"}
    assert found["confidence"] == {"output": "confidence"}


def test_the_demo_model_is_drafted_from_its_graph():
    """Sixteen receivers, 31 bands, a mask of floats; the meaning of the mask and of the position are asked for."""
    found = draft(read_onnx(DEMO))
    assert found.family is None
    mel, mask = found.document["inputs"]["log_mel"], found.document["inputs"]["receiver_mask"]
    assert (mel["feature"], mel["n_mels"], mel["frames"]["count"]) == ("log_mel", 31, 31)
    assert (mask["feature"], mask["dtype"], mask["true_means"]) == ("receiver_mask", "float32", None)
    assert found.document["receivers"]["set"]["max"] == 16
    assert {"inputs/receiver_mask/true_means", "position/frame", "position/axes"} <= set(found.missing)


@pytest.mark.parametrize("name", [*SET_FAMILIES, "slot_net"])
def test_every_null_that_stops_a_draft_is_asked_for(tmp_path, name):
    """`model check` names each with the draft's own question, and nothing that was not asked."""
    found = drafted(tmp_path, family(name).graph)
    (tmp_path / "contract.json").write_text(json.dumps(found.document))
    report = examine(Candidate(name, tmp_path / "model.onnx", tmp_path / "contract.json"), 2)
    open_ = [f for f in report.findings if f.check == "contract" and f.status is Status.FAIL]
    assert all("is not filled in" in f.found for f in open_), open_
    places = {f.figures["place"] for f in open_}
    assert all(any(place.startswith(asked) for asked in found.missing) for place in places), places
    assert all(f.remedy in found.missing.values() for f in open_)
    assert bool(places) == bool(found.missing)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "feature", "axes"),
    [
        ("spectra", "float32", ("b", "r", 64, 20), "log_mel", ["batch", "receiver", "mel", "frame"]),
        ("x", "float32", ("b", "r", 64, 20), "log_mel", ["batch", "receiver", "mel", "frame"]),
        ("mel", "float32", ("b", 64, 20), "log_mel", ["batch", "mel", "frame"]),
        ("x", "float32", ("b", "r", 2, 1024), "iq", ["batch", "receiver", "iq", "sample"]),
        ("x", "float32", ("b", "r", 1024, 2), "iq", ["batch", "receiver", "sample", "iq"]),
        ("iq", "float32", ("b", 2, 1024), "iq", ["batch", "iq", "sample"]),
        ("features", "float32", ("b", "r", 6), "receiver_features", ["batch", "receiver", "column"]),
        ("positions", "float32", ("b", "r", 3), "receiver_positions", ["batch", "receiver", "column"]),
        ("padding", "bool", ("b", "r"), "receiver_mask", ["batch", "receiver"]),
        ("active", "float32", ("b", "r"), "receiver_mask", ["batch", "receiver"]),
        ("station", "int64", ("b", "r"), "receiver_ids", ["batch", "receiver"]),
        ("temperature", "float32", ("b",), None, None),
    ],
)
def test_features_are_guessed_by_name_rank_and_type(name, dtype, shape, feature, axes):
    """The name first, then what the shape allows; what fits nothing is asked for."""
    file = OnnxFile(inputs=[Tensor(name, dtype, shape)], outputs=[Tensor("position", "float32", ("b", 2))])
    found = draft(file)
    assert found.document["inputs"][name]["feature"] == feature
    assert found.document["inputs"][name].get("axes") == axes
    assert (f"inputs/{name}/feature" in found.missing) == (feature is None)


@pytest.mark.parametrize(
    ("outputs", "kind", "asked"),
    [
        ([("position", 2), ("log_variance", 1)], "log_variance", False),
        ([("xy", 2), ("chol", 3)], "cholesky", False),
        ([("location", 2), ("sigma", 2)], "sigma", False),
        ([("position", 2), ("uncertainty", 2)], None, True),
        ([("out", 2)], None, False),
    ],
)
def test_outputs_are_guessed_by_name_and_size(outputs, kind, asked):
    """The kind of an uncertainty is filled in where its name says it, and asked for elsewhere."""
    file = OnnxFile(
        inputs=[Tensor("mel", "float32", ("b", 4, 8, 8))],
        outputs=[Tensor(name, "float32", ("b", size)) for name, size in outputs],
    )
    found = draft(file)
    assert found.document["position"]["output"] == outputs[0][0]
    assert found.document["uncertainty"]["kind"] == kind
    assert ("uncertainty/kind" in found.missing) == asked
    assert ("uncertainty/output" in found.missing) == (len(outputs) == 1)


def test_a_draft_holds_known_keys_only(tmp_path):
    """Once its nulls are filled in, nothing of it has to be removed: questions live in the card."""
    document = family("localization_net").document()
    found = drafted(tmp_path, family("localization_net").graph).document
    assert ModelContract.model_validate(found | {"golden": document["golden"]}).card["open_questions"]


def test_drafting_twice_gives_the_same(tmp_path):
    """What is known of a family is not changed by filling in one draft."""
    first = drafted(tmp_path, family("triangulation_model").graph)
    first.document["position"]["metres_per_degree"][0] = 0
    first.document["inputs"]["receiver_features"]["columns"].clear()
    second = drafted(tmp_path, family("triangulation_model").graph).document
    assert second["position"]["metres_per_degree"] == [111_000, 78_000]
    assert len(second["inputs"]["receiver_features"]["columns"]) == 6


def test_a_graph_without_shapes_is_drafted(tmp_path):
    """A file that does not say its ranks still gets a draft."""
    values = [helper.make_tensor_value_info(name, TYPES["float32"], None) for name in ("x", "position")]
    node = helper.make_node("Identity", ["x"], ["position"])
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    assert drafted(tmp_path, model).document["inputs"]["x"]["feature"] is None
