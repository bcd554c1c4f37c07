"""A whole run: what is measured, in which order, and the report."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.contest import FAILURES, contest, reply_file
from bench.figures import Document
from bench.machine import describe
from bench.options import Options
from bench.peers import PEERS
from bench.place import Place, place
from bench.plots import draw
from bench.ratios import fastest, judged, ratios
from bench.recipe import RawJob, Recipe
from bench.service_level import service_level, sweep
from bench.subjects import HEIMDALL, PLAIN_SCRIPT, Subject, floor_amqp, peer_subject
from bench.tables import markdown
from bench.traffic import Traffic, traffic
from bench.worker_only import batching, depths, hits, workers
from bench.workloads import WORKLOADS, Workload
from deploy.local import LocalStackError

OUT: Final = Path("out/bench")
AT_LEVEL: Final = ("narrow", "network")
"""Workloads of the service level."""
SWEPT: Final = "network"
BATCHED: Final = "heavy"
REPEATED: Final = "network"
SCALED: Final = "narrow"
DEEPENED: Final = "tiny"


def run(options: Options, command: Sequence[str]) -> Document:
    """Measure what the options ask for, and write `report.json`, `report.md` and the plots.

    Raises:
        LocalStackError: no servers can be had, or a subject is not known.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    report: Document = {"machine": describe(), "command": list(command), "quick": options.quick, "workloads": {}}
    with place() as where, traffic(where.amqp_url) as source:
        for name in options.workloads:
            report["workloads"][name] = _workload(where, source, WORKLOADS[name], options)
        _worker_only(report, where, source, options)
    report["seconds"] = time.monotonic() - began
    report["ratios"] = ratios(report)
    report["targets"] = judged(report)
    (OUT / "report.json").write_text(json.dumps(report, indent=1))
    (OUT / "report.md").write_text(markdown(report))
    draw(report, OUT)
    return report


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, flush=True)


def _workload(where: Place, source: Traffic, workload: Workload, options: Options) -> Document:
    about: Document = {
        "title": workload.title,
        "body_bytes": workload.body_bytes,
        "model_mib": where.model(workload).stat().st_size / 2**20,
    }
    subjects = subjects_of(where, workload, options)
    if "drain" in options.parts:
        about |= contest(where, source, workload, subjects, options, say)
    if "sla" in options.parts and workload.name in AT_LEVEL:
        about["sla"] = _part(lambda: service_level(where, source, workload, options, say))
    if "sweep" in options.parts and workload.name == SWEPT:
        shown = _swept(subjects, about)
        about["sweep"] = _part(lambda: sweep(where, source, workload, shown, options, say))
    return about


def _swept(subjects: Sequence[Subject], about: Document) -> list[Subject]:
    """The worker, the script, and the fastest peer of either kind."""
    names = {HEIMDALL.name, PLAIN_SCRIPT.name, fastest(about, "queue"), fastest(about, "serving")}
    return [subject for subject in subjects if subject.name in names]


def _worker_only(report: Document, where: Place, source: Traffic, options: Options) -> None:
    """What concerns the worker alone, each on the workload that shows it."""
    asked = options.parts if HEIMDALL.name in options.subjects or not options.subjects else ()
    if "batching" in asked and BATCHED in options.workloads:
        report["batching"] = {BATCHED: _part(lambda: batching(where, source, WORKLOADS[BATCHED], options, say))}
    if "hits" in asked and REPEATED in options.workloads:
        report["hits"] = {REPEATED: _part(lambda: hits(where, source, WORKLOADS[REPEATED], options, say))}
    if "scale" in asked and SCALED in options.workloads:
        report["scale"] = _part(lambda: workers(where, source, WORKLOADS[SCALED], options, say))
    if "depth" in asked and DEEPENED in options.workloads:
        report["depth"] = _part(lambda: {"depths": depths(where, source, WORKLOADS[DEEPENED], options, say)})


def _part(measure: Callable[[], Any]) -> Any:
    """One part; its failure is reported, and the others go on."""
    try:
        return measure()
    except FAILURES as error:
        say(f"FAILED: {error}")
        return {"failed": str(error) or repr(error)}


def subjects_of(where: Place, workload: Workload, options: Options) -> list[Subject]:
    """What takes part.

    Raises:
        LocalStackError: a subject that was asked for is not known.
    """
    recipe = Recipe(where.model(workload))
    result = recipe.locate([RawJob("reply-00000000-0000", workload.sigmf(), workload.make_bodies(1)[0])])[0].result
    floor = floor_amqp(reply_file(where.stack.directory, len(result)))
    known = [HEIMDALL, PLAIN_SCRIPT, floor, *(peer_subject(peer) for peer in PEERS)]
    unknown = set(options.subjects) - {subject.name for subject in known}
    if unknown:
        raise LocalStackError(f"no subject {sorted(unknown)}; there are {', '.join(s.name for s in known)}")
    if options.subjects:
        return [subject for subject in known if subject.name in {*options.subjects, floor.name}]
    if not options.peers:
        return known[:3]
    return [subject for subject in known if workload.name != BATCHED or subject.kind != "queue"]
