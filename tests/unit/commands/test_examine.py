"""Each check of `heimdall model check`, by a model that fails at it and one that does not."""

import json

import onnx
import pytest

from tests.support.graphs import LINEAR, Shape, contract, mask_input, mel_input, record
from tests.unit.commands.models import (
    dies,
    failures,
    one_item_only,
    only,
    proven,
    report_on,
    second_input,
    statuses,
    unknown_operator,
)
from worker.commands import check
from worker.commands.candidate import Candidate
from worker.commands.examine import examine
from worker.commands.findings import Status
from worker.serving.loading import file_digest

ALL = {"file", "contract", "graph", "runtime", "features", "golden", "answers"}
ALL |= {"position", "uncertainty", "batch", "timing", "worker"}


def test_a_good_model_passes_every_check(tmp_path):
    """Every check is named, and none asks for anything."""
    report = report_on(tmp_path)
    assert statuses(report) == dict.fromkeys(ALL, "ok"), report.findings
    assert report.facts["digest"] == file_digest(tmp_path / "model.onnx")
    assert report.facts["opset"] == 17
    assert only(report, "batch").figures["items"] == 32
    assert set(only(report, "timing").figures["run_ms"]) == {"1", "2", "4"}


def test_the_check_runs_apart(tmp_path):
    """A good model's report comes back from the other process as it is."""
    report_on(tmp_path)
    found = Candidate("m", tmp_path / "model.onnx", tmp_path / "contract.json")
    assert check.examine_apart(found, 2).passed


def test_a_model_that_kills_the_process_is_a_finding(tmp_path, monkeypatch):
    """The command survives, and says that a worker would not."""
    monkeypatch.setattr(check, "examine", dies)
    report = check.examine_apart(Candidate("m", tmp_path / "m.onnx", None), 2)
    assert failures(report) == [("process", "the process that tried the model died: so would a worker")]


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"], ids=["empty", "text", "no graph"])
def test_what_is_no_model_fails(tmp_path, content):
    """The file is named as the fault, and nothing of it is run."""
    (tmp_path / "m.onnx").write_bytes(content)
    report = examine(Candidate("m", tmp_path / "m.onnx", None), 4)
    assert failures(report)[0][0] == "file"
    assert {statuses(report)[name] for name in ("graph", "runtime", "golden", "worker")} == {"skip"}


def test_a_truncated_model_fails(tmp_path):
    """Half a file is no model, wherever it was cut."""
    report_on(tmp_path)
    path = tmp_path / "model.onnx"
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        report = examine(Candidate("m", path, tmp_path / "contract.json"), 2)
        assert not report.passed, length


def test_external_data_is_refused_before_anything_is_loaded(tmp_path):
    """The files that would be read are named, and ONNX Runtime never sees the model."""
    report_on(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    report = examine(Candidate("split", tmp_path / "split.onnx", tmp_path / "contract.json"), 4)
    [(where, found)] = failures(report)
    assert where == "file"
    assert "weights.bin" in found
    assert statuses(report)["runtime"] == "skip"


def test_an_operator_that_no_worker_has_fails(tmp_path):
    """What ONNX Runtime says is passed on."""
    report = report_on(tmp_path, change=unknown_operator)
    assert failures(report)[0][0] == "runtime"
    assert "nobody" in failures(report)[0][1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "contract.json is empty"),
        ('{"version": "1",\n "level" dbm}', "line 2, column 10"),
        ("[]", "holds no JSON object"),
    ],
)
def test_a_contract_that_is_no_document_fails(tmp_path, text, found):
    """The place of a slip in the JSON is given by line and column."""
    [(check_name, said)] = failures(report_on(tmp_path, document=text))
    assert check_name == "contract"
    assert found in said


def test_a_model_without_contract_fails(tmp_path):
    """The remedy is the command that drafts one."""
    report_on(tmp_path)
    report = examine(Candidate("m", tmp_path / "model.onnx", None), 4)
    finding = only(report, "contract")
    assert finding.status is Status.FAIL
    assert "heimdall model init" in finding.remedy


def test_every_error_of_a_contract_is_named_with_its_place(tmp_path):
    """Not only the first, and none of an alternative that the author did not mean."""
    document = contract(
        receivers={"slots": [{"id": "a", "geolocation": {"type": "Point", "coordinates": [200, 45]}}]},
        area=[5.0, 43.0, "east", 47.0],
        inputs={"log_mel": mel_input(n_fft=8, colour=1), "mask": {"feature": "masque"}},
        position={"output": "position", "frame": "enu_m", "origin": "middle", "axes": ["north", "east"]},
    )
    places = {f.figures["place"] for f in report_on(tmp_path, document=document).findings if "place" in f.figures}
    assert places == {
        "receivers/slots/0/geolocation/coordinates/0",
        "area/2",
        "inputs/log_mel/n_fft",
        "inputs/log_mel/colour",
        "inputs/mask",
        "position/origin",
    }


def test_what_a_draft_leaves_open_is_asked_for(tmp_path):
    """A null where a value belongs is shown with the question that the draft keeps for it."""
    card = {"open_questions": {"inputs/mel/hop": "samples between frames"}}
    document = contract(inputs={"mel": mel_input(hop=None), "mask": mask_input()}, card=card)
    finding = only(report_on(tmp_path, document=document), "contract")
    assert (finding.found, finding.remedy) == ("inputs/mel/hop is not filled in", "samples between frames")


def test_open_questions_are_a_warning(tmp_path):
    """A contract that is complete, but still asks, may serve."""
    report = report_on(tmp_path, document=proven(card={"open_questions": {"area": "where?"}}))
    assert report.passed
    assert "on area" in report.findings[2].found
    assert report.findings[2].status is Status.WARN


@pytest.mark.parametrize(
    ("shape", "changes", "found"),
    [
        (Shape(mel="spectrum"), {}, "the graph has no input 'mel'"),
        (Shape(mel="spectrum"), {}, "nothing feeds the graph's input spectrum float32 [batch, 3, 8, 4]"),
        (Shape(mel_type=onnx.TensorProto.DOUBLE), {}, "inputs/mel/dtype is float32, the graph takes float64"),
        (Shape(mel_shape=("batch", 3, 8)), {}, "inputs/mel/axes are 4 (batch, receiver, mel, frame), the graph takes"),
        (Shape(mel_shape=("batch", 3, 16, 4)), {}, "the axis mel is 16 in the graph, 8 by the contract"),
        (Shape(mel_shape=("batch", 3, 8, 9)), {}, "the axis frame is 9 in the graph, 4 by the contract"),
        (LINEAR, {"receivers": {"set": {"max": 2}}}, "the axis receiver is 3 in the graph, 2 by the contract"),
        (LINEAR, {"uncertainty": {"output": "sigma", "kind": "sigma"}}, "'sigma', which the graph does not give"),
        (LINEAR, {"uncertainty": {"output": "uncertainty", "kind": "cholesky"}}, "2 numbers per item where 3 belong"),
        (LINEAR, {"confidence": {"output": "uncertainty"}}, "2 numbers per item where 1 belong"),
        (Shape(position_columns=4), {}, "the position is position float32 [batch, 4]: 4 numbers"),
    ],
)
def test_a_contract_that_does_not_fit_its_graph_fails(tmp_path, shape, changes, found):
    """Names, types, ranks, fixed dimensions and components are compared, each difference on its own line."""
    report = report_on(tmp_path, shape, contract(**changes))
    graph = [said for name, said in failures(report) if name == "graph"]
    assert any(found in said for said in graph), graph
    assert statuses(report)["golden"] == "skip"


def test_several_differences_are_told_at_once(tmp_path):
    """One export mends them all."""
    report = report_on(tmp_path, Shape(mel_type=onnx.TensorProto.DOUBLE, position_columns=4), contract())
    assert len(failures(report)) == 2


@pytest.mark.parametrize(
    ("change", "found"), [(one_item_only, "fixed batch of 1"), (second_input, "nothing feeds the graph's input")]
)
def test_an_export_that_cannot_be_batched_or_fed_fails(tmp_path, change, found):
    """A fixed batch and an input without feature are found before any run."""
    [(name, said)] = failures(report_on(tmp_path, change=change))
    assert name == "graph"
    assert found in said


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"inputs": {"mel": mel_input(mel_scale="htk", fmin=-1000, fmax=1000), "mask": mask_input()}}, "mel filters"),
        ({"area": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}, "area is no polygon"),
    ],
    ids=["empty mel filter", "area of two points"],
)
def test_features_that_cannot_be_computed_fail(tmp_path, changes, found):
    """Empty mel filters and broken areas are found in the contract alone."""
    [(name, said)] = failures(report_on(tmp_path, document=contract(**changes)))
    assert name == "features"
    assert found in said


@pytest.mark.parametrize("digest", [None, "sha256:" + "0" * 64])
def test_a_version_that_cannot_be_verified_fails(tmp_path, digest):
    """Without the tag, or with another file's, the other checks still run."""
    report = report_on(tmp_path, version=record(digest))
    assert [name for name, _ in failures(report)] == ["digest", "worker"]
    assert statuses(report)["batch"] == "ok"


def test_the_report_is_json(tmp_path):
    """Status, finding and figures of every check are there for programs."""
    document = json.loads(json.dumps(report_on(tmp_path).document()))
    assert document["passed"] is True
    assert {entry["check"] for entry in document["checks"]} == ALL
    assert document["bytes"] == (tmp_path / "model.onnx").stat().st_size
