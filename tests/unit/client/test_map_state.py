from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.map.hearing import Heard
from client.map.panels import error_rows, model_rows, problem_lines, session_rows, status, worker_note, worker_rows
from client.map.state import Limits, LiveState
from client.map.workers import ASK_EVERY_S, Workers
from schemas.control import CommandReply, ServedVersion
from schemas.events import COMPLETE, FAILED, CompleteEvent, FailedEvent
from schemas.problems import ErrorCode
from tests.unit.client.fakes import ELLIPSE, problem, result

RING = {"type": "Polygon", "coordinates": [[[7.6, 45.0], [7.7, 45.0], [7.7, 45.1], [7.6, 45.0]]]}
STAMP = "2026-01-09T15:00:03Z"


def fix(job_id: str = "job", session: str | None = "walk", **changes: Any) -> CompleteEvent:
    """The event of a result with one ellipse."""
    ring = {"type": "Feature", "geometry": RING, "properties": {"kind": "ellipse", "confidence": 0.95}}
    geojson = {"type": "FeatureCollection", "features": [ring]}
    data = result(job_id, **({"session_id": session, "geojson": geojson} | changes))
    return CompleteEvent(event=COMPLETE, timestamp=STAMP, data=data)


def failure(job_id: str = "job") -> FailedEvent:
    """The event of an error."""
    return FailedEvent(event=FAILED, timestamp=STAMP, data=problem(job_id, ErrorCode.TOO_FEW_SAMPLES))


def receivers(*names: str, longitude: float = 7.0) -> list[dict[str, Any]]:
    """Receivers that took part."""
    return [{"id": name, "geolocation": {"type": "Point", "coordinates": [longitude, 45.0]}} for name in names]


class Viewer:
    """What the page does with updates, by the words of `LiveState.since`."""

    def __init__(self) -> None:
        self.seen = 0
        self.fixes: dict[str, dict[int, dict[str, Any]]] = {}
        self.receivers: list[dict[str, Any]] = []

    def look(self, state: LiveState) -> bool:
        """Take one update; False where nothing is new."""
        text = state.since(self.seen)
        if text is None:
            return False
        news = orjson.loads(text)
        for name in set(self.fixes) - set(news["sessions"]):
            del self.fixes[name]
        for one in news["fixes"]:
            self.fixes.setdefault(one["session"], {})[one["number"]] = one
        for name, (first, _) in news["sessions"].items():
            held = self.fixes.get(name, {})
            self.fixes[name] = {number: one for number, one in held.items() if number >= first}
        if news["receivers"] is not None:
            self.receivers = news["receivers"]
        self.seen = news["change"]
        return True

    def jobs(self) -> dict[str, list[str]]:
        """Job ids by session, in the order in which they came."""
        return {
            name: [dict(held[number]["rows"])["Job"] for number in sorted(held)] for name, held in self.fixes.items()
        }


def seen_whole(state: LiveState) -> dict[str, list[str]]:
    """What somebody sees who comes now."""
    viewer = Viewer()
    while viewer.look(state):
        pass
    return viewer.jobs()


def test_a_session_keeps_its_last_fixes() -> None:
    """The oldest fix goes when one too many has come; a viewer who had it lets it go."""
    state, viewer = LiveState(Limits(fixes_per_session=3)), Viewer()
    for number in range(5):
        state.add(fix(f"job-{number}"), now_s=number)
        viewer.look(state)
    assert viewer.jobs() == seen_whole(state) == {"walk": ["job-2", "job-3", "job-4"]}
    assert state.sessions["walk"].total == 5


def test_a_repeated_result_is_held_once() -> None:
    """A redelivered job tells its result again: no second dot; a sample of the same job is another."""
    state = LiveState(Limits())
    for _ in range(3):
        state.add(fix("one"), now_s=0.0)
    assert state.fixes == 1
    assert state.results == 3


def test_the_session_heard_of_last_stays() -> None:
    """Over the limit, the session goes that was silent for longest, whenever it began."""
    state = LiveState(Limits(sessions=2))
    for number, name in enumerate(["first", "second", "first", "third"]):
        state.add(fix(f"job-{number}", name), now_s=number)
    assert seen_whole(state) == {"first": ["job-0", "job-2"], "third": ["job-3"]}


def test_everything_is_bounded() -> None:
    """Whatever comes, and however often: sessions, receivers, failures and models stay within their limits."""
    limits = Limits(fixes_per_session=2, sessions=3, receivers=4, failures=5, models=2)
    state, viewer = LiveState(limits), Viewer()
    for number in range(50):
        model = {"name": "m", "version": str(number), "digest": "sha256:0", "alias": "canary"}
        event = fix(f"{number}", f"s{number // 4}", model=model, receivers_used=receivers(f"r{number}"))
        state.add(event, now_s=number)
        state.add(failure(f"{number}"), now_s=number)
        viewer.look(state)
    assert [len(held) for held in (state.sessions, state.failures, state.models)] == [3, 5, 2]
    assert state.fixes == 6
    assert [place["id"] for place in viewer.receivers] == ["r46", "r47", "r48", "r49"]


def test_what_is_old_is_forgotten() -> None:
    """Sessions, receivers, failures and models that were not heard of for the time that is set go, others stay."""
    state, viewer = LiveState(Limits(forget_s=10)), Viewer()
    state.add(fix("old", "gone", receivers_used=receivers("away")), now_s=0.0)
    state.add(failure("old"), now_s=0.0)
    state.add(fix("new", "here", receivers_used=receivers("near")), now_s=8.0)
    viewer.look(state)
    state.forget(now_s=11.0)
    assert viewer.look(state)
    assert viewer.jobs() == {"here": ["new"]}
    assert [place["id"] for place in viewer.receivers] == ["near"]
    assert not state.failures
    state.forget(now_s=30.0)
    assert viewer.look(state)
    assert (viewer.jobs(), viewer.receivers, len(state.models)) == ({}, [], 0)


def test_nothing_new_is_nothing_to_send() -> None:
    """A viewer who has seen everything is sent nothing, also after a look at what is old."""
    state, viewer = LiveState(Limits()), Viewer()
    state.add(fix(), now_s=0.0)
    assert viewer.look(state)
    state.forget(now_s=1.0)
    assert not viewer.look(state)


def test_receivers_are_sent_when_they_change() -> None:
    """The same receivers again are not sent again; one that moved is."""
    state = LiveState(Limits())
    state.add(fix("one", receivers_used=receivers("a", "b")), now_s=0.0)
    first = orjson.loads(state.since(0) or b"")
    state.add(fix("two", receivers_used=receivers("a", "b")), now_s=1.0)
    second = orjson.loads(state.since(first["change"]) or b"")
    state.add(fix("three", receivers_used=receivers("b", longitude=8.0)), now_s=2.0)
    third = orjson.loads(state.since(second["change"]) or b"")
    assert [place["at"] for place in first["receivers"]] == [[45.0, 7.0], [45.0, 7.0]]
    assert second["receivers"] is None
    assert {place["id"]: place["at"][1] for place in third["receivers"]} == {"a": 7.0, "b": 8.0}


def test_a_viewer_far_behind_gets_it_in_parts() -> None:
    """Updates are bounded too: a newcomer to a full state takes several, and ends with all of it."""
    state = LiveState(Limits(fixes_per_session=2000))
    for number in range(1203):
        state.add(fix(f"{number}", f"s{number % 5}"), now_s=0.0)
    viewer, sizes = Viewer(), []
    while (text := state.since(viewer.seen)) is not None:
        sizes.append(len(orjson.loads(text)["fixes"]))
        viewer.look(state)
    assert max(sizes) <= 500
    assert sum(sizes) == sum(map(len, viewer.jobs().values())) == 1203


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fix"), st.integers(0, 40), st.sampled_from([None, "a", "b", "c"])),
        st.tuples(st.just("fail"), st.integers(0, 40), st.none()),
        st.tuples(st.just("look"), st.integers(0, 2), st.none()),
        st.tuples(st.just("wait"), st.integers(1, 8), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
def test_viewers_agree_whenever_they_look(steps: list[tuple[str, int, str | None]]) -> None:
    """However late and seldom he looks, a viewer ends with what one sees who comes now."""
    state, viewers, now_s = (
        LiveState(Limits(fixes_per_session=3, sessions=2, forget_s=5)),
        [Viewer() for _ in "abc"],
        0.0,
    )
    for what, number, session in steps:
        if what == "fix":
            state.add(fix(str(number), session), now_s)
        elif what == "fail":
            state.add(failure(str(number)), now_s)
        elif what == "look":
            viewers[number].look(state)
        else:
            now_s += number
            state.forget(now_s)
    for viewer in viewers:
        while viewer.look(state):
            pass
        assert viewer.jobs() == seen_whole(state)


def test_the_rate_is_of_whole_seconds() -> None:
    """Thirty results in three seconds are three per second over ten; the second under way does not count."""
    state = LiveState(Limits())
    for number in range(30):
        state.add(fix(str(number)), now_s=100.0 + number / 10)
    assert state.per_second(103.0) == pytest.approx(3.0)
    assert state.per_second(102.5) == pytest.approx(2.0)
    assert state.per_second(200.0) == 0.0


def test_a_fix_says_what_a_click_shows() -> None:
    """Session, capture time, age, ellipses by falling confidence, model and receivers are there, rings as drawn."""
    state = LiveState(Limits())
    ellipses = [{**ELLIPSE, "confidence": 0.5, "semi_major_m": 900.0}, ELLIPSE]
    state.add(fix("one", ellipses=ellipses), now_s=0.0)
    (drawn,) = orjson.loads(state.since(0) or b"")["fixes"]
    rows = dict(drawn["rows"])
    assert drawn["at"] == [45.044, 7.672]
    assert (drawn["captured"], drawn["age_ms"]) == ("2026-01-09T15:00:02.123456789Z", 877.0)
    assert drawn["rings"] == [{"confidence": 0.95, "geometry": RING}]
    assert list(rows)[1:3] == ["95 % ellipse", "50 % ellipse"]
    assert rows["95 % ellipse"] == "2.41 km x 850 m, 31°"
    assert rows["Model"] == "demo version 3 (production)"
    assert rows["Ignored"] == "Genova (too weak)"
    assert rows["Mind"] == "few receivers took part"


def test_a_fix_without_times_and_places() -> None:
    """What a job does not say is not shown, and is no error."""
    nowhere = [{"id": "somewhere", "geolocation": None}]
    state, viewer = LiveState(Limits()), Viewer()
    event = fix("one", None, capture_time=None, age_ms=None, center_frequency_hz=None, receivers_used=nowhere)
    state.add(event, now_s=0.0)
    viewer.look(state)
    (drawn,) = viewer.fixes[""].values()
    assert (drawn["captured"], drawn["age_ms"], viewer.receivers) == (None, None, [])
    assert "Frequency" not in dict(drawn["rows"])


@pytest.fixture
def heard() -> Heard:
    """What a page shows after one fix and one failure."""
    it = Heard("amqp://me:s3cret@broker/", LiveState(Limits()))
    it.state.add(fix("one"), now_s=100.0)
    it.state.add(failure("two"), now_s=100.0)
    return it


def test_the_side_tells_of_results(heard: Heard) -> None:
    """A row per session, model and error, with the time since, in steps."""
    (session,), (model,), (error,) = (rows(heard.state, 112.0) for rows in (session_rows, model_rows, error_rows))
    assert (session["session"], session["fixes"], session["last"]) == ("walk", 1, "10 s")
    assert (model["model"], model["results"]) == ("demo version 3 (production)", 1)
    assert (error["job"], error["error"]) == ("two", "too_few_samples: what was wrong with it")


def test_the_status_is_the_connection(heard: Heard) -> None:
    """Trouble is told instead of figures; the password never."""
    assert status(heard, 100.0) == ("connecting to the broker", False)
    heard.trouble = None
    assert status(heard, 101.0) == ("amqp://me@broker/: results 1 (0.1 per second), errors 1", True)


def test_an_error_says_what_to_do() -> None:
    """A click on an error shows title, detail and remedy."""
    lines = problem_lines(problem("two", ErrorCode.TOO_FEW_SAMPLES))
    assert lines[0] == "two: The recording is shorter than the model needs (too_few_samples)"
    assert lines[-1].startswith("What to do: Record longer")


def reply(instance: str, *, ok: bool = True) -> CommandReply:
    """A worker's answer."""
    serving = [ServedVersion(name="demo", version="3", alias="production", digest="sha256:0")]
    detail = "see `serving`" if ok else "user 'me' may not command this worker"
    return CommandReply(
        command_id="c", command="info", instance=instance, ok=ok, detail=detail, state="serving", serving=serving
    )


def test_workers_answer_and_fall_silent() -> None:
    """A worker's row says what it serves; one that missed two questions is silent, and later it is gone."""
    workers = Workers()
    assert worker_note(workers) == "No worker has answered yet"
    workers.add(reply("one"), now_s=0.0)
    (row,) = worker_rows(workers, 1.0)
    assert (row["worker"], row["state"], row["serves"], row["heard"]) == ("one", "serving", "production 3", "now")
    assert worker_note(workers) == ""
    (row,) = worker_rows(workers, 3 * ASK_EVERY_S)
    assert row["state"] == "silent (was serving)"
    workers.forget(before_s=1.0)
    assert worker_rows(workers, 2.0) == []


def test_a_refusal_ends_the_asking() -> None:
    """Where the login may not command, workers are known by their results, and the reason is said."""
    workers = Workers()
    workers.add(reply("one", ok=False), now_s=0.0)
    assert worker_rows(workers, 0.0) == []
    expected = "Workers are known by their results only: user 'me' may not command this worker"
    assert worker_note(workers) == expected


def test_workers_are_bounded() -> None:
    """Instances that come and go do not pile up."""
    workers = Workers()
    for number in range(1000):
        workers.add(reply(str(number)), now_s=number)
    assert len(workers.seen) == 200
