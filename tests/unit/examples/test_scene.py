"""The committed scene, and how scenes are written to files."""

import hashlib
import json
from pathlib import Path

from examples import scene
from examples.network import TORINO
from examples.scenes import fresh_scenes
from schemas.sigmf import SigmfMetadata

COMMITTED = Path(scene.__file__).parent / "scene"


def test_a_scene_is_written_as_a_recording_that_names_its_truth(tmp_path: Path) -> None:
    """Data are the job's body, metadata the job's with digest and truth."""
    fresh = next(fresh_scenes(TORINO, 1, 1, "ci8"))
    scene.write(fresh, tmp_path / "one")
    metadata = json.loads((tmp_path / "one.sigmf-meta").read_text("utf-8"))
    assert (tmp_path / "one.sigmf-data").read_bytes() == fresh.body
    assert metadata["global"]["core:sha512"] == hashlib.sha512(fresh.body).hexdigest()
    assert f"latitude {fresh.latitude_deg:.5f}" in metadata["global"]["core:description"]


def test_the_committed_scene_is_what_its_command_writes() -> None:
    """A simulator that changes must bring its example along."""
    fresh = next(fresh_scenes(TORINO, 1, scene.SEED, "ci8"))
    metadata = json.loads(COMMITTED.with_suffix(".sigmf-meta").read_text("utf-8"))
    assert SigmfMetadata.model_validate(metadata).global_.receivers
    assert metadata["global"]["heimdall:receivers"] == fresh.metadata["global"]["heimdall:receivers"]
    assert len(COMMITTED.with_suffix(".sigmf-data").read_bytes()) == len(fresh.body)
