"""deploy/Dockerfile: what it copies exists, all is locked, nothing runs as root. `make image` builds it."""

import re
from fnmatch import fnmatch

from deploy.local.image import TARGETS, TRIALS, Image
from tests.support.manifests import ROOT
from worker.config import ENV_PREFIX, Settings

TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
ADMITTED = [
    line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
]


def test_copied_files_exist_and_are_sent_to_the_build() -> None:
    """No COPY names what is missing or what .dockerignore keeps away."""
    for words in (line.split()[1:-1] for line in TEXT.splitlines() if re.match(r"COPY (?!--from)", line)):
        for word in words:
            path = word.removeprefix("./")
            assert (ROOT / path).exists(), path
            assert any(fnmatch(path, pattern) for pattern in ADMITTED), path


def test_everything_is_installed_by_hash() -> None:
    """Each pip install takes a lock file with hashes, or our own wheel without an index."""
    installs = re.findall(r"pip install ([^&\n]+)", TEXT)
    assert installs
    assert all("--require-hashes -r /locks/" in words or "--no-deps --no-index" in words for words in installs)


def test_targets_are_those_that_are_built_and_tried() -> None:
    """Each has a trial in deploy/local/image.py; the worker is what is built when none is named."""
    stages = re.findall(r"^FROM \S+ AS (\S+)", TEXT, re.MULTILINE)
    assert set(TARGETS) <= set(stages)
    assert set(TRIALS) == set(TARGETS)
    assert stages[-1] == "worker"


def test_users_are_numbers_and_entrypoints_are_programs() -> None:
    """So Kubernetes can tell that it is not root, and signals reach the program."""
    assert re.findall(r"^USER (\S+)", TEXT, re.MULTILINE) == ["10002", "10001"]
    assert all(words.startswith('["') for words in re.findall(r"^ENTRYPOINT (.*)", TEXT, re.MULTILINE))
    assert "/health/live" in TEXT


def test_variables_are_settings() -> None:
    """No image sets a variable that nobody reads."""
    named = {name.removeprefix(ENV_PREFIX).lower() for name in re.findall(rf"{ENV_PREFIX}[A-Z_]+", TEXT)}
    assert named <= Settings.model_fields.keys()


def test_an_image_that_is_wrong_is_found() -> None:
    """Root, a shell before the program, no health check."""
    right = {"User": "10001", "Entrypoint": ["python", "-m", "worker"], "Healthcheck": {"Test": ["CMD", "true"]}}
    assert Image.read({"Docker": {"config": right}}).problems() == []
    for change in ({"User": ""}, {"User": "0"}, {"Entrypoint": ["/bin/sh", "-c", "x"]}, {"Healthcheck": None}):
        assert len(Image.read({"Docker": {"config": right | change}}).problems()) == 1
