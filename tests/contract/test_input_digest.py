"""`input_digest` can be computed from docs/wire.md alone."""

from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3

from worker.job import Job

BODY = b"\x00\x01" * 8


def recipe(user_id: str, content_type: str, sigmf: str, body: bytes) -> str:
    """As the page says: four parts, each with its length as eight bytes before it."""
    parts = (user_id.encode(), content_type.encode(), sigmf.encode(), blake3(body).digest())
    return "blake3:" + blake3(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).hexdigest()


@pytest.mark.parametrize(
    ("delivered", "described"),
    [
        (
            ("guest", "application/octet-stream", '{"global": {}}'),
            ("guest", "application/octet-stream", '{"global": {}}'),
        ),
        ((None, "application/json", None), ("", "application/json", "")),
        (("è", "application/octet-stream", b"{}"), ("è", "application/octet-stream", "{}")),
    ],
)
def test_the_recipe_gives_the_digest(delivered: tuple[Any, Any, Any], described: tuple[str, str, str]) -> None:
    """Missing parts count as empty, and a header that came as bytes counts as it is."""
    user_id, content_type, sigmf = delivered
    delivery: Any = SimpleNamespace(
        user_id=user_id, content_type=content_type, sigmf=sigmf, body=BODY, claimed_digest=None
    )
    job = Job(delivery)
    job.digest_input()
    assert job.input_digest == recipe(*described, BODY)
