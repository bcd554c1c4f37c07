"""Tables, plots and calculations from a report."""

from pathlib import Path

import pytest

from bench.capacity import Costs, costs, model, need, needs
from bench.plots import draw
from bench.publish import BEGIN, END, figures, replaced, summary
from bench.tables import markdown, show
from tests.unit.bench.reports import report


def test_tables_show_every_part() -> None:
    """Each part of a report has its table, and what failed is named with its reason's first line."""
    text = markdown(report())
    titles = ("Targets", "network: 1 receiver", "100 connections", "Rising", "Batching", "Cache", "Workers", "Cost of")
    for title in titles:
        assert f"**{title}" in text
    assert "- broken, network: no such package\n" in text
    assert "at line 3" not in text


def test_tables_of_a_partial_report() -> None:
    """Parts that were not measured, or failed, leave no table and no error."""
    partial = report()
    for part in ("batching", "hits", "scale", "depth"):
        del partial[part]
    partial["workloads"]["network"] = {"title": "", "body_bytes": 1, "sla": {"failed": "gone"}}
    assert markdown(partial).count("**") == 2


def test_an_unanswered_lone_job_leaves_the_other_figures() -> None:
    """A subject that answers no lone job in time keeps its throughput, and is named."""
    document = report()
    script = document["workloads"]["network"]["subjects"]["plain_script"]
    script |= {"idle_ms": None, "idle_unanswered": 2}
    text = markdown(document)
    assert "| plain_script (script) | 2,500 | 250 | 100 | - | 200 |" in text
    assert "- plain_script, network: a lone job was not answered within 30 s in 2 turns" in text


def test_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal has the subjects and their figures."""
    show(report())
    shown = capsys.readouterr().out
    assert "plain_script" in shown
    assert "3,000" in shown


def test_every_plot_is_drawn(tmp_path: Path) -> None:
    """Four pictures from a whole report, none from an empty one."""
    assert [path.read_bytes()[:4] for path in draw(report(), tmp_path)] == [b"\x89PNG"] * 4
    assert draw({"workloads": {}}, tmp_path) == []


def test_costs_are_the_medians() -> None:
    """What a report says of a job; nothing where the worker was not measured."""
    found = costs(report(), "network")
    assert found is not None
    assert (found.worker_us, found.broker_us, found.stored_bytes, found.receivers) == (200.0, 100.0, 6000, 7)
    assert costs(report(), "tiny") is None


def test_need_is_arithmetic() -> None:
    """A thousand receivers, ten in a job, two fixes a second: 200 jobs per second."""
    job = Costs("any", 10, 2**20, 100.0, 7000.0, 3500.0, 700.0, 2**20, 150.0)
    found = need(job, 1000, 2.0, prefetch=128, ttl_s=1024.0)
    assert found.jobs_per_s == 200.0
    assert found.workers == 3
    assert found.worker_cores == pytest.approx(2.0)
    assert found.broker_cores == pytest.approx(1.0)
    assert found.store_cores == pytest.approx(0.2)
    assert found.ingress_mib_s == pytest.approx(200.0)
    assert found.held_gib == pytest.approx(3 * 128 / 1024)
    assert found.stored_gib == pytest.approx(200.0)


def test_capacity_tables_have_a_row_per_workload() -> None:
    """Only measured workloads are calculated with."""
    assert [row[0] for row in model(report()).rows] == ["network"]
    assert needs(report(), 1000, 5.0).rows[0][1] == "714"


def test_published_figures_replace_the_old_ones() -> None:
    """Only what stands between the marks changes, also the second time."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replaced(page, "new", "page")
    assert once == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert replaced(once, "new", "page") == once
    with pytest.raises(ValueError, match=r"page\.md has no lines"):
        replaced("nothing", "new", "page.md")


def test_summary_names_the_best_peers() -> None:
    """The README's table: the worker beside the fastest of either kind."""
    text = summary(report())
    assert "3,000 | 1,000 (fast) | 1,500 (http) | 200 µs | 0.80 of 250 µs" in text
    assert "Capacity model" in figures(report())
