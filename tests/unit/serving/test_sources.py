import pytest

from worker.errors import ModelRejected
from worker.serving.sources import check_source

REGISTRY = "http://mlflow:5000"


@pytest.mark.parametrize(
    "source",
    [
        "mlflow-artifacts:/1/abc/artifacts",
        "models:/m-0123/",
        "runs:/abc/model",
        "s3://bucket/models/1",
        "gs://bucket/models",
        "wasbs://container@account/models",
        "file:///data/artifacts/1",
        "/data/artifacts/1",
        "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1",
    ],
)
def test_stores_and_the_registry_itself_are_taken(source):
    """Wherever registries keep files: object stores, their own server, a disk."""
    check_source(source, REGISTRY)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("http://evil.example/model", "evil.example"),
        ("https://mlflow:5000/model", "mlflow"),
        ("http://mlflow:5001/model", "mlflow"),
        ("http://mlflow:5000@evil.example/model", "evil.example"),
        ("http://169.254.169.254/latest", "169.254"),
        ("HTTP://evil.example/model", "evil.example"),
        ("ftp://evil.example/model", "scheme 'ftp'"),
        ("sftp://user:secret@evil.example/model", "scheme 'sftp'"),
        ("javascript:alert(1)", "scheme"),
        ("file:///data/../etc", "climbs"),
        ("s3://bucket/a/%2e%2e/b", "climbs"),
        ("mlflow-artifacts:/1/..\\..\\x", "climbs"),
        ("http://[evil", "no address"),
        ("http://mlflow:99999/x", "no address"),
    ],
)
def test_other_servers_and_ways_out_are_refused(source, said):
    """Another web server, an unknown scheme, a path that climbs: refused, and no password is repeated."""
    with pytest.raises(ModelRejected, match=said) as refused:
        check_source(source, REGISTRY)
    assert "secret" not in refused.value.reason


def test_a_registry_in_a_file_sends_nobody_to_a_web_server():
    """Without a server of its own, no web address is the registry's."""
    with pytest.raises(ModelRejected):
        check_source("http://127.0.0.1:5000/x", "sqlite:///mlflow.db")
