"""The oracle: what became of every confirmed job. Pure; it compares what was written down, and knows nothing of how.

lost = confirmed, without an outcome in Redis, a reply, or a dead letter, and not accounted for apart by the scenario
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

COMPLETE = "localization.complete"
FAILED = "localization.failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """A result or an error, wherever it was found.

    Attributes:
        digest: of its bytes.
        code: of an error, None for a result.
        fits: whether it names this job, and has the position that this job's input leads to.
    """

    digest: str
    code: str | None = None
    fits: bool = True


@dataclass(frozen=True)
class Evidence:
    """What was found after a scenario.

    Attributes:
        confirmed: jobs whose publish the broker confirmed and did not return.
        published: every job that was tried, confirmed or not; a superset of `confirmed`.
        stored: outcomes in Redis.
        replies: as received, repeats included.
        events: routing keys seen.
        dead: dead letters, (job id, code); a letter made by the broker has no code.
        inferred: items of jobs in all runs of the model, by all workers, also those that were killed.
        left: messages still in the queue.
        apart: jobs that the scenario itself accounts for, such as those in a queue when it was deleted.
    """

    confirmed: frozenset[str]
    published: frozenset[str]
    stored: Mapping[str, Answer] = field(default_factory=dict)
    replies: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    events: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dead: Sequence[tuple[str, str | None]] = ()
    inferred: int = 0
    left: int = 0
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """What the evidence amounts to.

    Attributes:
        lost: confirmed, and without any trace of an outcome.
        unexpected: with an error or dead letter that the scenario does not call for, without one that it does, or with
            an answer that is not this job's.
        differing: answered with bytes that differ from each other or from the stored ones.
        re_inferred: items that the model computed beyond once per job.
        repeated: replies beyond the first of each job.
    """

    confirmed: int
    lost: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[str, ...]
    re_inferred: int
    repeated: int
    left: int

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.unexpected or self.differing or self.left)


def judge(evidence: Evidence, errors: Mapping[str, str] | None = None) -> Verdict:
    """Compare.

    Args:
        evidence: of one scenario.
        errors: the jobs that must end with an error, and its code; all others must have a result.
    """
    expected = errors or {}
    answered = evidence.stored.keys() | evidence.replies.keys()
    located = {job for job in answered if any(answer.code is None for answer in _answers(evidence, job))}
    return Verdict(
        confirmed=len(evidence.confirmed),
        lost=tuple(sorted(evidence.confirmed - answered - {job for job, _ in evidence.dead} - evidence.apart)),
        unexpected=tuple(sorted(_unexpected(evidence, expected))),
        differing=tuple(sorted(job for job in answered if len({a.digest for a in _answers(evidence, job)}) > 1)),
        re_inferred=max(0, evidence.inferred - len(located)),
        repeated=sum(len(replies) - 1 for replies in evidence.replies.values()),
        left=evidence.left,
    )


def recovery_s(disturbances: Iterable[tuple[float, float]], answered: Sequence[float]) -> float | None:
    """Longest time from the end of a disturbance to the next answer, seconds; None where one was followed by none.

    Args:
        disturbances: beginnings and ends.
        answered: times of answers, ascending, on the same clock.
    """
    waits = [0.0]
    for _, end in disturbances:
        at = bisect_left(answered, end)
        if at == len(answered):
            return None
        waits.append(answered[at] - end)
    return max(waits)


def _answers(evidence: Evidence, job: str) -> list[Answer]:
    stored = evidence.stored.get(job)
    return [*([stored] if stored else []), *evidence.replies.get(job, ())]


def _unexpected(evidence: Evidence, expected: Mapping[str, str]) -> set[str]:
    found = (evidence.stored.keys() | evidence.replies.keys()) - evidence.published
    letters: dict[str, list[str | None]] = {}
    for job, code in evidence.dead:
        letters.setdefault(job, []).append(code)
    for job in evidence.stored.keys() | evidence.replies.keys() | letters.keys() | evidence.events.keys():
        wanted = expected.get(job)
        answers = _answers(evidence, job)
        wrong_answer = any(answer.code != wanted or not answer.fits for answer in answers)
        wrong_letter = any(code != wanted for code in letters.get(job, ())) or (wanted is None and job in letters)
        wrong_event = not evidence.events.get(job, frozenset()) <= {FAILED if wanted else COMPLETE}
        if wrong_answer or wrong_letter or wrong_event:
            found.add(job)
    return set(found) | {job for job in expected if not _answers(evidence, job)}
