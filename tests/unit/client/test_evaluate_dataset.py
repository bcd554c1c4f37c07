"""Labelled recordings, reports and plots of an evaluation."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.errors import CaptureError
from client.evaluation.labels import Labelled, find_labelled
from client.evaluation.plots import PlotsUnavailable, draw_all
from client.evaluation.report import METRICS, evaluate, read_report, write_report
from client.evaluation.scenes import FailedScene, LocatedScene

TURIN = {"type": "Point", "coordinates": [7.672, 45.044]}
GENOA = {"type": "Point", "coordinates": [8.956, 44.395]}
MODEL = {"name": "demo", "version": "3", "digest": "sha256:" + "0" * 64, "alias": "production"}


def write(path: Path, annotations: list[dict[str, Any]], **fields: Any) -> Path:
    """The metadata of a recording; its samples are not looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {"core:datatype": "cf32_le", "core:sample_rate": 48_000, "core:version": "1.2.0", **fields}
    path.write_text(json.dumps({"global": described, "captures": [], "annotations": annotations}))
    return path


def truth(point: dict[str, Any] = TURIN, start: int = 0, **fields: Any) -> dict[str, Any]:
    """An annotation."""
    return {"core:sample_start": start, "heimdall:truth": point, **fields}


def scene(error_deg: float = 0.0, block: str | None = None, sigma_m: float = 100.0) -> LocatedScene:
    """A fix north of the truth."""
    return LocatedScene.model_validate(
        {
            "name": "drive",
            "sample": 0,
            "block": block,
            "truth": TURIN,
            "position": {"latitude": 45.044 + error_deg, "longitude": 7.672},
            "covariance_m2": [[sigma_m**2, 0.0], [0.0, sigma_m**2]],
            "model": MODEL,
        }
    )


def test_finds_recordings_in_folders(tmp_path: Path) -> None:
    """Names are paths within the dataset; block numbers are names too."""
    write(tmp_path / "b.sigmf-meta", [{"core:sample_start": 0, "core:label": "x"}, truth(**{"heimdall:block": 7})])
    write(tmp_path / "drive" / "a.sigmf-meta", [truth(GENOA)])
    first, second = find_labelled(tmp_path)
    assert (first.name, first.labels[0].block, first.labels[0].truth.longitude) == ("b", "7", 7.672)
    assert (second.name, second.labels[0].block, second.labels[0].truth.latitude) == ("drive/a", None, 44.395)


def test_a_collection_is_one_scene(tmp_path: Path) -> None:
    """Its streams are not scenes of their own, and one of them may carry the truth for all."""
    write(tmp_path / "roof.sigmf-meta", [truth()])
    write(tmp_path / "hill.sigmf-meta", [])
    collection = {"collection": {"core:streams": [{"name": "roof"}, {"name": "hill"}]}}
    (tmp_path / "night.sigmf-collection").write_text(json.dumps(collection))
    (found,) = find_labelled(tmp_path)
    assert (found.name, found.path.suffix, len(found.labels)) == ("night", ".sigmf-collection", 1)


def test_each_sample_of_a_batch_recording_has_its_own_truth(tmp_path: Path) -> None:
    """The annotation that covers it; one without a length reaches to the end."""
    samples = [{"sample_start": 0, "sample_count": 100}, {"sample_start": 100, "sample_count": 100}]
    annotations = [truth(TURIN, 0, **{"core:sample_count": 100}), truth(GENOA, 100)]
    write(tmp_path / "a.sigmf-meta", annotations, **{"heimdall:samples": samples})
    (found,) = find_labelled(tmp_path)
    assert [label.truth.longitude for label in found.labels] == [7.672, 8.956]


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ([], "no annotation with heimdall:truth; give it one such as"),
        ([truth(), truth(GENOA)], "2 different labels"),
        ([truth({"type": "Point", "coordinates": [45.044, 97.672]})], "heimdall:truth"),
        ([truth({"type": "Polygon", "coordinates": []})], "heimdall:truth"),
    ],
)
def test_a_bad_label_is_named(tmp_path: Path, annotations: list[dict[str, Any]], said: str) -> None:
    """The message names the file, what is wrong and what would be right."""
    write(tmp_path / "drive.sigmf-meta", annotations)
    with pytest.raises(CaptureError, match=r"drive\.sigmf-meta") as caught:
        find_labelled(tmp_path)
    assert said in str(caught.value)


def test_an_empty_or_missing_directory_is_refused(tmp_path: Path) -> None:
    """And the message says what a dataset is."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CaptureError, match="a dataset is a directory of SigMF recordings"):
            find_labelled(path)


def test_figures_of_known_errors() -> None:
    """Errors of 0, 111.1 and 1111 m with sigmas of 100 m."""
    found = evaluate([scene(), scene(0.001), scene(0.01), FailedScene(name="x", sample=0, code="expired", detail="")])
    figures = found.figures
    assert tuple(figures) == METRICS
    assert (figures["n"], figures["failed"]) == (3, 1)
    assert figures["median_m"] == pytest.approx(111.1, abs=0.1)
    assert figures["mean_m"] == pytest.approx(407.5, abs=0.2)
    assert figures["coverage39"] == pytest.approx(1 / 3)
    assert figures["coverage50"] == pytest.approx(2 / 3)
    # ln(2π·100²) for each, and half of 0, 1.235 and 123.5.
    assert figures["nll"] == pytest.approx(math.log(2 * math.pi * 1e4) + (1.1114**2 + 11.114**2) / 6, abs=0.01)
    assert found.line.startswith("evaluate: n=3 median_m=111.1 p90_m=911.")


def test_blocks_decide_over_the_intervals() -> None:
    """Wilson for independent scenes, bootstrap over blocks where blocks are named."""
    alone = evaluate([scene(0.001) for _ in range(10)])
    grouped = evaluate([scene(0.001 * (number % 2), block=str(number % 2)) for number in range(10)])
    assert "Wilson" in alone.intervals
    assert (alone.estimates["coverage90"].low, alone.estimates["coverage90"].high) == pytest.approx(
        (0.7225, 1.0), abs=1e-3
    )
    assert "bootstrap over 2 blocks" in grouped.intervals
    assert (grouped.estimates["mean_m"].low, grouped.estimates["mean_m"].high) == pytest.approx((0.0, 111.1), abs=0.1)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The same figures come out; nothing located is no figure, not zero."""
    scenes = [scene(0.001, "a"), scene(0.002, "b"), FailedScene(name="x", sample=0, code="expired", detail="late")]
    write_report(evaluate(scenes), ["drives"], tmp_path / "out" / "report.json")
    document = json.loads((tmp_path / "out" / "report.json").read_bytes())
    again = evaluate(read_report(tmp_path / "out" / "report.json"))
    assert again.figures == evaluate(scenes).figures
    assert (document["n"], document["failed"], document["models"]) == (2, 1, [MODEL | {"scenes": 2}])
    assert document["scenes"][0]["error_m"] == pytest.approx(111.1, abs=0.1)
    nothing = evaluate(scenes[2:])
    assert math.isnan(nothing.figures["median_m"])
    write_report(nothing, ["drives"], tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_bytes())["figures"]["median_m"]["value"] is None


def test_documented_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the documentation reads a report, and judges it."""
    write_report(evaluate([scene(0.001), scene(0.002)]), ["drives"], tmp_path / "out/evaluation/report.json")
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[3] / "docs/evaluation.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("evaluate: n=2 median_m=166.7 ")
    assert shown[2] == "True"


def test_another_file_is_no_report(tmp_path: Path) -> None:
    """The message names it."""
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CaptureError, match=r"other\.json: no report of heimdall evaluate: scenes"):
        read_report(tmp_path / "other.json")


def test_plots_are_drawn(tmp_path: Path) -> None:
    """Four pictures that are not blank."""
    rng = np.random.default_rng(5)
    drawn = draw_all(evaluate([scene(float(error)) for error in rng.normal(0, 0.002, 30)]), tmp_path)
    assert {path.name for path in drawn} == {"errors.png", "pit.png", "error-map.png", "ellipse-map.png"}
    assert all(path.stat().st_size > 8_000 for path in drawn)
    assert draw_all(evaluate([]), tmp_path) == []


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that the report is complete without."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsUnavailable, match=r"pip install 'heimdall-worker\[plots\]'"):
        draw_all(evaluate([scene()]), tmp_path)


def test_labelled_is_what_the_client_loads(tmp_path: Path) -> None:
    """The path of a recording is that of its metadata."""
    path = write(tmp_path / "a.sigmf-meta", [truth()])
    assert isinstance(find_labelled(tmp_path)[0], Labelled)
    assert find_labelled(tmp_path)[0].path == path
