import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.graphs import contract, write
from worker.errors import ModelRejected, Unavailable
from worker.serving.library import Library
from worker.serving.loading import load_version
from worker.serving.rollout import Rollout
from worker.serving.session import SessionOptions


class Registry:
    """A registry with one real model, that may be away."""

    def __init__(self, folder):
        self.source = folder / "source"
        self.source.mkdir()
        self.record = write(self.source, beside=contract())
        self.downloads = 0
        self.away = False

    @contextmanager
    def download(self, record):
        """A copy that goes again."""
        if self.away:
            raise Unavailable("away")
        self.downloads += 1
        directory = self.source.parent / f"download-{self.downloads}"
        shutil.copytree(self.source, directory)
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


@pytest.fixture
def registry(tmp_path):
    """A registry of its own."""
    return Registry(tmp_path)


@pytest.fixture
def home(tmp_path):
    """Where files stay."""
    return tmp_path / "state"


@pytest.fixture
def library(registry, home):
    """A library of its own."""
    return Library(registry, home, "heimdall")


def use(library, record):
    """Use the files of a version; their names."""
    with library.files(record) as directory:
        return sorted(path.name for path in directory.iterdir())


def kept(home):
    """What lies in a library."""
    return sorted(path.name for path in (home / "heimdall").iterdir())


def load(directory, record):
    """Load a version for real."""
    return load_version(directory, record, SessionOptions(), max_batch_size=1, require_golden=False)


def test_a_second_use_downloads_nothing(library, registry):
    """Not even while the registry is away."""
    assert use(library, registry.record) == ["contract.json", "model.onnx"]
    registry.away = True
    assert use(library, registry.record) == ["contract.json", "model.onnx"]
    assert registry.downloads == 1


def test_what_was_refused_is_not_kept(library, registry, home):
    """Files of a version that did not load are downloaded anew."""

    def refuse():
        with library.files(registry.record):
            raise ModelRejected("golden")

    with pytest.raises(ModelRejected):
        refuse()
    use(library, registry.record)
    assert registry.downloads == 2


@pytest.mark.parametrize("without", ["directory", "digest"])
def test_nothing_is_kept_without_a_place_or_a_digest(registry, home, without):
    """Files that could not be verified later do not stay."""
    library = Library(registry, None if without == "directory" else home, "heimdall")
    record = replace(registry.record, digest=None) if without == "digest" else registry.record
    use(library, record)
    use(library, record)
    assert registry.downloads == 2
    assert not home.exists()


def test_versions_with_one_digest_keep_their_own_contracts(library, registry):
    """A contract beside the model is not in the digest."""
    use(library, registry.record)
    use(library, replace(registry.record, version="8"))
    assert registry.downloads == 2


def test_what_served_last_is_remembered(library, registry, home):
    """All parts come back as they were, also in another process; the file can be read by its owner alone."""
    canary = replace(registry.record, version="8", alias="canary", tags={"heimdall.canary_weight": "5"})
    rollout = Rollout(registry.record, canary, 5.0, None)
    library.remember(rollout)
    assert Library(registry, home, "heimdall").last_known() == rollout
    assert (home / "heimdall").stat().st_mode & 0o777 == 0o700
    assert (home / "heimdall" / "rollout.json").stat().st_mode & 0o077 == 0
    library.remember(Rollout(canary))
    assert library.last_known() == Rollout(canary)


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"{}", b'{"primary": 1, "canary": null}', b"\xff"])
def test_a_damaged_memory_is_no_memory(library, registry, home, text):
    """Half a file, or one of another release: unavailable, as if there were none."""
    library.remember(Rollout(registry.record))
    (home / "heimdall" / "rollout.json").write_bytes(text)
    with pytest.raises(Unavailable, match="no last-known roll-out"):
        library.last_known()


def test_a_memory_of_another_release_is_none(library, registry, home):
    """Fields that this release does not know, or misses."""
    library.remember(Rollout(registry.record))
    file = home / "heimdall" / "rollout.json"
    file.write_bytes(file.read_bytes().replace(b'"run_id"', b'"job_id"'))
    with pytest.raises(Unavailable):
        library.last_known()


def test_nothing_is_known_at_first(library, registry):
    """Nor without a folder, which the reason says."""
    with pytest.raises(Unavailable, match="no last-known roll-out"):
        library.last_known()
    nowhere = Library(registry, None, "heimdall")
    nowhere.remember(Rollout(registry.record))
    with pytest.raises(Unavailable, match="HEIMDALL_STATE_DIR is not set"):
        nowhere.last_known()


def test_files_of_what_serves_no_longer_go(library, registry, home):
    """The disk holds what serves, and nothing grows."""
    old, new = registry.record, replace(registry.record, version="8")
    use(library, old)
    use(library, new)
    library.remember(Rollout(old, new, 5.0))
    assert len(kept(home)) == 3
    library.remember(Rollout(new))
    assert len(kept(home)) == 3, "another worker on this disk may still load what is new"
    for folder in home.rglob("sha256-*"):
        os.utime(folder, (0, 0))
    library.remember(Rollout(new))
    assert len(kept(home)) == 2
    registry.away = True
    assert use(library, new)
    with pytest.raises(Unavailable):
        use(library, old)


def test_two_workers_share_a_disk(library, registry, home):
    """The second to keep the same files keeps nothing, and leaves nothing behind."""
    other = Library(registry, home, "heimdall")
    with library.files(registry.record), other.files(registry.record):
        pass
    assert registry.downloads == 2
    assert len(kept(home)) == 1
    assert use(library, registry.record) == ["contract.json", "model.onnx"]


def test_a_disk_that_takes_no_files_says_so(registry, tmp_path):
    """An operator's mistake is an error of the system with the path in it."""
    (tmp_path / "file").write_text("not a folder")
    library = Library(registry, tmp_path / "file", "heimdall")
    with pytest.raises(OSError, match="file/heimdall"):
        use(library, registry.record)
    with pytest.raises(OSError, match="file/heimdall"):
        library.remember(Rollout(registry.record))


def test_kept_files_load(library, registry):
    """A worker starts from them without a registry."""
    use(library, registry.record)
    registry.away = True
    with library.files(registry.record) as directory:
        assert load(directory, registry.record).digest == registry.record.digest


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_files_never_serve(library, registry, home, damage):
    """A bit that fell over on the disk is found by the digest."""
    use(library, registry.record)
    (model,) = (home / "heimdall").glob("*/model.onnx")
    if damage == "changed":
        model.write_bytes(model.read_bytes()[:-1] + b"?")
    else:
        model.unlink()

    def start():
        with library.files(registry.record) as directory:
            load(directory, registry.record)

    registry.away = True
    with pytest.raises(Unavailable):
        start()
    registry.away = False
    start()
    assert registry.downloads == 2, "a disk's damage is no fault of the version"
    registry.away = True
    start()


def test_a_folder_that_another_worker_takes_away_disturbs_nobody(library, registry, home, monkeypatch):
    """It is listed, and gone before it is looked at."""
    use(library, registry.record)
    stat = Path.stat

    def gone(self, **options):
        found = stat(self, **options)
        if self.name.startswith("sha256-") and not options:
            shutil.rmtree(self)
            raise FileNotFoundError(str(self))
        return found

    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    monkeypatch.setattr(Path, "stat", gone)
    library.remember(Rollout(replace(registry.record, version="8")))
    assert kept(home) == ["rollout.json"]
