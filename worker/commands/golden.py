"""Golden vectors: does the model reproduce them, by what margin, and is the tolerance worth anything."""

import base64
import binascii
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from worker.commands.findings import Report
from worker.commands.subject import Batch, Subject, metres
from worker.errors import JobError
from worker.geo.wgs84 import metres_per_degree
from worker.reading import read_sigmf
from worker.serving.contract import Golden
from worker.serving.inputs import Tensors

CHECK: Final = "golden"
_LOOSE_M: Final = 1000.0
_MIDDLE_LATITUDE_DEG: Final = 45.0


def check_golden(subject: Subject, report: Report) -> None:
    """Run each golden vector, and say how far it is from what it expects."""
    vectors = subject.contract.golden
    if not vectors:
        report.fail(
            CHECK,
            "there are no golden vectors: nothing shows that the model computes what it did where it was trained",
            "add recordings with the outputs that your training code gives (docs/model-contract.md, golden); "
            "a worker refuses the model without, unless HEIMDALL_REQUIRE_GOLDEN is false",
        )
    for index, golden in enumerate(vectors):
        _check(subject, golden, f"golden[{index}]", report)
    if vectors and all(golden.body is None for golden in vectors):
        report.warn(CHECK, "no vector holds a recording: preprocessing is not proven", "add one with sigmf and body")


def _check(subject: Subject, golden: Golden, where: str, report: Report) -> None:
    try:
        recording, feed = _feed(subject, golden)
        outputs = subject.session.run(tuple(golden.expected), feed)
    except (JobError, RuntimeError, ValueError, TypeError, KeyError) as error:
        report.fail(CHECK, f"{where} cannot be run: {error}", "it must hold all inputs, and a recording as a job has")
        return
    deviations = {}
    for name, expected in golden.expected.items():
        got = outputs[name] if golden.body is None else outputs[name][0]
        deviation = _deviation(got, expected, golden, f"{where}, {name}", report)
        if deviation is None:
            return
        deviations[name] = deviation
    _judge(deviations, golden, where, report)
    _check_tolerance(subject, golden, where, report)
    if recording is not None:
        _check_place(subject, recording, where, report)


def _judge(deviations: dict[str, float], golden: Golden, where: str, report: Report) -> None:
    if not deviations:
        report.fail(CHECK, f"{where} expects nothing", "give the outputs that belong to it, by name")
        return
    worst = max(deviations, key=lambda name: deviations[name])
    share = deviations[worst]
    amount = f"{100 * share:.2g} % of" if share <= 1.0 else f"{share:.3g} times"
    found = f"{where}: largest deviation is {amount} the tolerance ({worst})"
    figures = {"deviation_of_tolerance": deviations}
    if share <= 1.0:
        report.ok(CHECK, found, **figures)
        return
    source = "the inputs of a graph" if golden.body is None else "a recording"
    report.fail(
        CHECK,
        f"{found}, which is rtol {golden.rtol:g}, atol {golden.atol:g}",
        f"it is {source}: compare the contract's preprocessing with that of training, and the vector with this export",
        **figures,
    )


def _deviation(
    got: NDArray[np.generic], expected: list[object], golden: Golden, where: str, report: Report
) -> float | None:
    """Largest |got - expected| in units of the tolerance; None where they cannot be compared, which is reported."""
    try:
        wanted = np.asarray(expected, dtype=np.float64)
    except (ValueError, TypeError):
        report.fail(CHECK, f"{where}: the expectation is no rectangular array of numbers", "correct it")
        return None
    values = np.asarray(got, dtype=np.float64)
    if values.shape != wanted.shape:
        hint = "with their batch axis" if golden.body is None else "of the one item, without batch axis"
        report.fail(
            CHECK,
            f"{where}: the output has the shape {list(values.shape)}, expected has {list(wanted.shape)}",
            f"write expected outputs {hint}",
        )
        return None
    excess = np.abs(values - wanted) / np.maximum(golden.atol + golden.rtol * np.abs(wanted), np.finfo(float).tiny)
    return float(np.max(np.nan_to_num(excess, nan=np.inf), initial=0.0))


def _feed(subject: Subject, golden: Golden) -> tuple[Batch | None, Tensors]:
    """What goes into the graph, and the item where the vector is a recording."""
    if golden.tensors is not None:
        bound = subject.contract.inputs
        return None, {name: np.asarray(golden.tensors[name], dtype=bound[name].dtype) for name in bound}
    try:
        body = base64.b64decode(golden.body or "", validate=True)
    except binascii.Error as error:
        raise ValueError(f"body is no base64: {error}") from error
    item = subject.item(read_sigmf(orjson.dumps(golden.sigmf), body))
    tensors = subject.plan.allocate(1, item.capture.samples.shape[1])
    subject.plan.fill(tensors, 0, item)
    return Batch(("golden",), tensors, (item.seats.origin,)), subject.plan.feed(tensors)


def _check_place(subject: Subject, recording: Batch, where: str, report: Report) -> None:
    """A recording that the model is known by must end in a fix, and in one where the model is valid."""
    try:
        _, fixes = subject.run(recording)
    except (RuntimeError, ValueError) as error:
        report.fail(CHECK, f"{where} gives no fix: {error}", "see position, uncertainty and confidence")
        return
    if fixes.faults[0] is not None:
        report.fail(CHECK, f"{where} gives no fix: {fixes.faults[0]}", "see position, uncertainty and confidence")
    elif subject.admission.outside_area(fixes.latitude_deg, fixes.longitude_deg)[0]:
        report.warn(
            CHECK,
            f"{where} is located at {fixes.latitude_deg[0]:.4f}, {fixes.longitude_deg[0]:.4f}, outside the area",
            "compare position/frame, axes (order), scale and offset with training; longitude comes first in area",
        )


def _check_tolerance(subject: Subject, golden: Golden, where: str, report: Report) -> None:
    """A relative tolerance on absolute degrees is easily kilometres, and proves nothing."""
    position = subject.contract.position
    if position.output not in golden.expected:
        report.warn(CHECK, f"{where} expects no {position.output}: it proves no position", "add it to expected")
        return
    expected = np.abs(np.asarray(golden.expected[position.output], dtype=np.float64))
    allowed = (golden.atol + golden.rtol * expected.reshape(-1, 2)) * np.abs(position.scale) * _unit_m(subject)
    if allowed.max() > _LOOSE_M:
        report.warn(
            CHECK,
            f"{where} tolerates {metres(float(allowed.max()))}: it would pass with quite another position",
            "lower rtol (0 where the outputs are absolute degrees), and give atol in the output's own unit",
        )


def _unit_m(subject: Subject) -> float:
    """Metres per unit of the scaled position, to a few percent."""
    in_metres = subject.contract.position.frame == "enu_m"
    return 1.0 if in_metres else float(metres_per_degree(_MIDDLE_LATITUDE_DEG)[0])
