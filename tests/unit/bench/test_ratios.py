"""Ratios and targets from medians."""

import pytest

from bench.ratios import TARGETS, Target, fastest, judged, last_line, ratios, two_workers
from tests.unit.bench.reports import report


def test_every_ratio_is_what_its_name_says() -> None:
    """Each is one median over another."""
    found = ratios(report())["network"]
    assert found == {
        "cpu_per_job_over_plain_script": pytest.approx(200 / 250),
        "cpu_per_job_over_floors": pytest.approx(200 / (70 + 120 + 10)),
        "throughput_over_best_queue_peer": pytest.approx(3000 / 1000),
        "throughput_over_best_serving_peer": pytest.approx(3000 / 1500),
        "idle_p50_over_floor": pytest.approx(2.0 / (0.5 + 0.8 + 0.2)),
        "idle_p50_over_best_peer": pytest.approx(2.0 / 1.0),
        "p95_ms_at_70_percent": 10.0,
        "p99_ms_at_70_percent": 10.0,
        "success": 1.0,
        "batching_gain": None,
        "hit_cpu_over_miss": 0.4,
    }


def test_what_was_not_measured_has_no_ratio() -> None:
    """Without peers, floors and service level their ratios are None, and no target on them holds or is missed."""
    bare = report()
    workload = bare["workloads"]["network"]
    bare["workloads"] = {"network": {"title": "", "subjects": {"heimdall": workload["subjects"]["heimdall"]}}}
    bare["hits"] = bare["scale"] = {}
    bare["ratios"] = ratios(bare)
    assert set(bare["ratios"]["network"].values()) == {None}
    assert {target["held"] for target in judged(bare)} == {None}


def test_a_failed_worker_holds_no_target() -> None:
    """Nothing divides by what is not there."""
    broken = report()
    broken["workloads"]["network"]["subjects"]["heimdall"] = {"kind": "worker", "settings": {}, "failed": "ended"}
    assert ratios(broken)["network"]["cpu_per_job_over_plain_script"] is None


def test_targets_are_judged_on_their_own_side() -> None:
    """A bound from below, one from above, and the bound itself."""
    most, least = Target("tiny", "x", most=1.0), Target("tiny", "x", least=2.0)
    assert [most.judge(value) for value in (0.9, 1.0, 1.01, None)] == [True, True, False, None]
    assert [least.judge(value) for value in (1.99, 2.0, 3.0, None)] == [False, True, True, None]


def test_every_target_names_a_ratio_that_is_computed() -> None:
    """A misspelt target would never be measured."""
    computed = set(ratios(report())["network"]) | {"hit_rate", "two_workers"}
    assert {target.ratio for target in TARGETS} <= computed


def test_last_line_counts_and_names() -> None:
    """Held, missed and not measured add up to all, and what is missed is named."""
    targets = judged(report())
    line = last_line(targets)
    held, missed = sum(t["held"] is True for t in targets), sum(t["held"] is False for t in targets)
    assert line.startswith(f"bench: targets={len(targets)} held={held} missed={missed} not_measured=")
    assert "network.idle_p50_over_best_peer" in line
    assert held >= 8
    assert missed == 1


@pytest.mark.parametrize(
    ("cores", "rates", "cpu", "held"),
    [
        (8, (100.0, 180.0), (50.0, 80.0), 1.0),
        (8, (100.0, 160.0), (50.0, 50.0), 0.0),
        (2, (100.0, 110.0), (50.0, 54.0), 1.0),
        (2, (100.0, 190.0), (50.0, 56.0), 0.0),
    ],
)
def test_two_workers(cores: int, rates: tuple[float, float], cpu: tuple[float, float], held: float) -> None:
    """With the cores for it throughput counts, on fewer the processor time of a job."""
    workers = {str(n + 1): {"jobs_per_s": {"median": rates[n]}, "cpu_us": {"median": cpu[n]}} for n in range(2)}
    assert two_workers({"cores": cores, "workers": workers}) == held


def test_fastest_peer_of_a_kind() -> None:
    """Peers that failed, and kinds without a peer, have none."""
    workload = report()["workloads"]["network"]
    assert fastest(workload, "queue") == "fast"
    assert fastest(workload, "serving") == "http"
    assert fastest({"subjects": {}}, "queue") is None
