"""Golden vectors, made-up recordings and batches of `heimdall model check`, by models that fail at them."""

import pytest

from tests.support.graphs import Shape, contract, iq_golden, tensor_golden
from tests.unit.commands.models import (
    ABSOLUTE,
    against_the_batch,
    failures,
    nan_in_silence,
    only,
    proven,
    report_on,
    statuses,
)
from worker.commands.findings import Status


def test_golden_vectors_are_asked_for(tmp_path):
    """Without them nothing is proven, and a worker refuses."""
    names = [name for name, _ in failures(report_on(tmp_path, document=contract()))]
    assert names == ["golden", "worker"]


@pytest.mark.parametrize(
    ("golden", "found"),
    [
        ({"expected": {"position": [[45.1, 7.6]], "uncertainty": [[0.01, 0.02]]}}, "times the tolerance (position)"),
        ({"expected": {"position": [45.0, 7.6]}}, "the output has the shape [1, 2], expected has [2]"),
        ({"expected": {"position": [["north", 7.6]]}}, "no rectangular array of numbers"),
        ({"expected": {"where": [[45.0, 7.6]]}}, "golden[0] cannot be run"),
        ({"expected": {}}, "golden[0]"),
        ({"tensors": {"mask": [[True]]}}, "golden[0] cannot be run"),
    ],
)
def test_a_golden_vector_that_is_not_met_fails(tmp_path, golden, found):
    """The deviation is told in units of the tolerance; what cannot be compared is told as well."""
    document = contract(golden=[tensor_golden() | ABSOLUTE | golden])
    said = [said for name, said in failures(report_on(tmp_path, document=document)) if name == "golden"]
    assert any(found in one for one in said), said


def test_a_golden_recording_that_no_job_could_be_fails(tmp_path):
    """A vector on IQ level goes through admission like a job."""
    document = contract()
    vector = iq_golden(document)
    vector["sigmf"]["global"]["core:sample_rate"] = 1e6
    said = failures(report_on(tmp_path, document=document | {"golden": [vector]}))[0][1]
    assert "golden[0] cannot be run: the model takes 48000 Hz" in said


def test_the_margin_of_a_golden_vector_is_told(tmp_path):
    """A deviation within the tolerance is given as its share."""
    vector = tensor_golden() | ABSOLUTE
    vector["expected"]["position"][0][0] += 5e-5
    finding = report_on(tmp_path, document=contract(golden=[vector])).findings[5]
    assert finding.check == "golden"
    assert finding.status is Status.OK
    assert finding.figures["deviation_of_tolerance"]["position"] == pytest.approx(0.5, abs=0.05)


def test_a_tolerance_of_kilometres_is_a_warning(tmp_path):
    """A relative tolerance on absolute degrees proves nothing."""
    report = report_on(tmp_path, document=contract(golden=[tensor_golden()]))
    warned = [f.found for f in report.findings if f.status is Status.WARN]
    assert report.passed
    assert any("golden[0] tolerates 5" in found and "km" in found for found in warned), warned
    assert any("no vector holds a recording" in found for found in warned), warned


def test_a_model_that_answers_nan_fails(tmp_path):
    """Each kind of recording is named, and the output that is not finite."""
    report = report_on(tmp_path, Shape(position=(float("nan"), 7.6)), contract())
    finding = next(f for f in report.findings if f.check == "answers")
    assert "the model's position is not finite" in finding.found
    assert "not finite: position" in finding.remedy
    assert len(finding.figures["items"]) == 32
    assert {statuses(report)[name] for name in ("position", "uncertainty", "batch")} == {"skip"}


def test_a_model_that_fails_on_silence_fails(tmp_path):
    """Only silence ends without a fix, with the fewest and with the most receivers."""
    report = report_on(tmp_path, change=nan_in_silence)
    [(name, said)] = failures(report)
    assert name == "answers"
    assert "not finite, with silence, 1 receiver; silence, 3 receivers (2 of 32 recordings)" in said


@pytest.mark.parametrize(
    ("uncertainty", "kind"),
    [((0.0, 0.01), "sigma"), ((-1.0, 1.0), "variance"), ((1.0, 1.0, 1.0), "sigma_rho"), ((1.0, 0.5, 0.0), "cholesky")],
)
def test_a_covariance_that_is_not_positive_definite_fails(tmp_path, uncertainty, kind):
    """Zero, negative and fully correlated errors are no ellipse."""
    shape = Shape(uncertainty=uncertainty)
    document = proven(shape, uncertainty={"output": "uncertainty", "kind": kind})
    found = failures(report_on(tmp_path, shape, document))
    assert [name for name, _ in found] == ["golden", "answers"]
    assert all("not positive definite" in said for _, said in found)


def test_a_confidence_beyond_one_fails(tmp_path):
    """It could not be read as one."""
    shape = Shape(confidence=1.5)
    document = proven(shape, confidence={"output": "confidence"})
    assert "confidence is not within 0..1" in failures(report_on(tmp_path, shape, document))[0][1]


def test_a_model_that_fails_on_loud_signals_fails(tmp_path):
    """The recordings that fail alone are named."""
    shape = Shape(fails_above=-10.0)
    finding = next(f for f in report_on(tmp_path, shape).findings if f.check == "answers")
    assert finding.status is Status.FAIL
    assert "alone, too, fails: loud noise" in finding.remedy


def test_a_model_for_a_few_items_fails(tmp_path):
    """That each item runs alone says where to look."""
    report = report_on(tmp_path, Shape(fails_from_batch=8))
    finding = next(f for f in report.findings if f.check == "answers")
    assert finding.status is Status.FAIL
    assert "each runs alone" in finding.remedy


def test_a_model_whose_largest_batch_fails_fails(tmp_path):
    """The batch that a worker would warm up is tried at its full size."""
    report = report_on(tmp_path, Shape(fails_from_batch=64), max_batch=64)
    assert [name for name, _ in failures(report)] == ["timing", "worker"]
    assert "a batch of 64 fails" in failures(report)[0][1]


def test_a_model_that_mixes_its_items_fails(tmp_path):
    """An answer that depends on the neighbours is found, with its distance."""
    document = proven()
    document["golden"] = [tensor_golden(level=0.0) | ABSOLUTE]
    report = report_on(tmp_path, document=document, change=against_the_batch)
    [(name, said)] = failures(report)
    assert name == "batch"
    assert "positions differ by at most" in said
    assert only(report, "batch").figures["shift_m"] > 100
    assert "eval mode" in only(report, "batch").remedy


def test_jobs_that_a_contract_itself_refuses_fail(tmp_path):
    """Slots far from the area could never have a job."""
    slots = [{"id": f"rx{i}", "geolocation": {"type": "Point", "coordinates": [100 + 0.1 * i, 45]}} for i in range(3)]
    document = contract(receivers={"slots": slots, "min_present": 1}, golden=[tensor_golden() | ABSOLUTE])
    name, said = failures(report_on(tmp_path, document=document))[0]
    assert name == "answers"
    assert "would be refused (receiver_mismatch)" in said
    assert "km from the model's area" in said


def test_positions_outside_the_area_are_a_warning(tmp_path):
    """They may be right, so the model may serve."""
    report = report_on(tmp_path, document=proven(area=[8.0, 45.5, 9.0, 46.0]))
    assert report.passed
    assert only(report, "position").status is Status.WARN
    assert "44." in only(report, "position").found
    golden = [f.found for f in report.findings if f.check == "golden" and f.status is Status.WARN]
    assert len(golden) == 1
    assert "golden[0] is located at 44." in golden[0]


def test_a_contract_without_area_is_a_warning(tmp_path):
    """Nothing can then be called implausible."""
    assert only(report_on(tmp_path, document=proven(area=None)), "position").status is Status.WARN


@pytest.mark.parametrize("sigma", [1e-7, 50.0])
def test_an_uncertainty_in_the_wrong_unit_is_a_warning(tmp_path, sigma):
    """A sigma of a centimetre or of half the Earth is no sigma in degrees."""
    report = report_on(tmp_path, Shape(uncertainty=(sigma, sigma)))
    finding = only(report, "uncertainty")
    assert finding.status is Status.WARN
    assert "is the unit right?" in finding.found
