import os
import re
import sys

import pytest
from pydantic import ValidationError

from bench.chaos import injection
from deploy.local import apt, broker, store
from worker.config import ENV_PREFIX, Settings, unknown_variables

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """No setting of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def refusal(**changes):
    """What is said of settings."""
    with pytest.raises(ValidationError) as caught:
        Settings(**changes)
    return caught.value


def test_the_defaults_fit_together():
    """A worker starts without any setting."""
    settings = Settings()
    assert settings.prefetch_count >= 4 * settings.max_batch_size
    assert settings.prefetch_count * settings.max_body_bytes <= settings.memory_budget_bytes
    assert settings.instance
    assert settings.control_users == ("operator",)


def test_every_setting_says_what_it_is():
    """The documentation is made of the fields' own descriptions."""
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment(monkeypatch):
    """Names are the prefix and the field in capitals; text becomes the field's type."""
    values = {
        "MAX_BATCH_SIZE": "8",
        "EAGER": "false",
        "CONTROL_USERS": " alice , bob,",
        "PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider",
        "AMQP_URL": f"amqps://u:{SECRET}@broker/",
        "ROUTING_KEY": "localize.vhf",
        "HTTP_PORT": "0",
    }
    for name, value in values.items():
        monkeypatch.setenv(ENV_PREFIX + name, value)
    settings = Settings()
    assert settings.max_batch_size == 8
    assert settings.eager is False
    assert settings.control_users == ("alice", "bob")
    assert settings.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert settings.amqp_url.get_secret_value() == f"amqps://u:{SECRET}@broker/"
    assert settings.routing_key == "localize.vhf"
    assert settings.http_port == 0


def test_nobody_may_command_where_the_list_is_empty(monkeypatch):
    """An empty list of users is a list."""
    monkeypatch.setenv(ENV_PREFIX + "CONTROL_USERS", "")
    assert Settings().control_users == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amqp_url": "http://broker"}, "amqp_url"),
        ({"redis_url": "http://redis"}, "redis_url"),
        ({"model_name": "a/b"}, "model_name"),
        ({"instance": "a b"}, "instance"),
        ({"instance": "#"}, "instance"),
        ({"routing_key": "other"}, "routing_key"),
        ({"routing_key": "localize.*"}, "routing_key"),
        ({"queue": "amq.gen-x"}, "queue"),
        ({"queue_max_bytes": 5}, "queue_max_bytes"),
        ({"prefetch_count": 70_000}, "prefetch_count"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"max_wait_ms": -1}, "max_wait_ms"),
        ({"grace_s": 5}, "grace_s"),
        ({"http_host": ""}, "http_host"),  # The library would take it for every address of the machine.
        ({"http_port": 65_536}, "http_port"),
        ({"log_level": "LOUD"}, "log_level"),
        ({"log_format": "xml"}, "log_format"),
        ({"intra_op_threads": 0}, "intra_op_threads"),
        ({"stale_after_s": 0}, "stale_after_s"),
    ],
)
def test_a_wrong_setting_is_named(changes, field):
    """A start with a wrong setting fails at once and names it."""
    assert refusal(**changes).errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0", "unix:///run/redis.sock"])
def test_redis_has_three_schemes(url):
    """Plain, TLS and a socket."""
    assert Settings(redis_url=url).redis_url.get_secret_value() == url


@pytest.mark.parametrize("url", ["redis://h", "redis://h/", "redis://h/12?client_name=w", "unix:///x.sock?db=2"])
def test_a_database_of_redis_is_a_number_or_left_out(url):
    """What the client takes, it still gets."""
    assert Settings(redis_url=url).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/abc", "must be a number"),
        ("redis://h/0/1", "must be a number"),
        ("redis://h/0?foo=bar", r"its parameters \(foo\)"),
        ("redis://h/?db=x", r"its parameters \(db\)"),
        ("redis://h/0?retry=x", r"its parameters \(retry\)"),
        ("redis://h/0?ssl_check_hostname=true", r"its parameters \(ssl_check_hostname\)"),
    ],
)
def test_a_url_that_the_redis_client_cannot_use(url, said):
    """Found before the start: the client itself fails at its first connection, or takes database 0 in silence."""
    (error,) = refusal(redis_url=url).errors()
    assert error["loc"] == ("redis_url",)
    assert re.search(said, error["msg"])


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow:5000",
        "https://u:p@mlflow.example/path",
        "sqlite:////a folder/mlflow.db",
        "sqlite:///mlflow.db",
        "file:///mlruns",
        "databricks",
        "databricks://profile",
    ],
)
def test_registries_that_mlflow_knows(uri):
    """Servers, databases, folders, Databricks."""
    assert Settings(mlflow_tracking_uri=uri).mlflow_tracking_uri.get_secret_value() == uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "must be http://HOST"),
        (" ", "must be http://HOST"),
        ("foo://bar", "sqlite:///FILE"),
        ("mlflow:5000", "must be http://HOST"),
        ("mlflow", "must be http://HOST"),
        ("http://", "must be http://HOST"),
        ("sqlite://", "sqlite:///FILE"),
        ("databricks-uc", "databricks://PROFILE"),
        (f"http://u:{SECRET}/rest@mlflow", "is no URL"),
        (f"postgresql+nosuch://u:{SECRET}@h/db", "is no URL of a database"),
    ],
)
def test_a_registry_that_mlflow_does_not_know(uri, said):
    """An empty one would be a new database in the worker's folder; others would be asked for ever."""
    (error,) = refusal(mlflow_tracking_uri=uri).errors()
    assert error["loc"] == ("mlflow_tracking_uri",)
    assert re.search(said, error["msg"])
    assert SECRET not in error["msg"]


def test_a_database_without_its_driver(monkeypatch):
    """The worker would end with a traceback when it first asks."""
    monkeypatch.setitem(sys.modules, "pymysql", None)
    (error,) = refusal(mlflow_tracking_uri=f"mysql+pymysql://u:{SECRET}@h/db").errors()
    assert re.search("needs a driver that is not installed: .*pymysql", error["msg"])
    assert SECRET not in error["msg"]


def test_prefetch_feeds_four_batches():
    """Fewer jobs than four batches would starve the stages; the refusal names both figures."""
    Settings(prefetch_count=128, max_batch_size=32)
    assert "HEIMDALL_PREFETCH_COUNT 127 is less than 4 x HEIMDALL_MAX_BATCH_SIZE 32" in str(
        refusal(prefetch_count=127, max_batch_size=32)
    )


def test_what_is_held_fits_the_memory():
    """Prefetched bodies, and a batch of them decoded, must fit the budget, to the byte."""
    fits = {"prefetch_count": 128, "max_body_bytes": 2**20, "memory_budget_bytes": 2**28}
    Settings(**fits)
    assert "over HEIMDALL_MEMORY_BUDGET_BYTES" in str(refusal(**fits | {"max_body_bytes": 2**20 + 1}))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("HEIMDALL_PREFETCH", "HEIMDALL_PREFETCH_COUNT"),
        ("HEIMDALL_MLFLOW_URI", "HEIMDALL_MLFLOW_TRACKING_URI"),
        ("heimdall_batch_size", "HEIMDALL_MAX_BATCH_SIZE"),
        ("HEIMDALL_FAVOURITE_COLOUR", None),
    ],
)
def test_a_misspelt_variable_is_found(name, known):
    """With the setting that was meant, where one looks like it."""
    assert unknown_variables([name, "PATH", "HEIMDALL_AMQP_URL", "heimdall_eager"]) == {name: known}


def test_variables_of_our_own_tools_are_none_of_it():
    """Tests, the fault suite and the local servers have their own, and start workers with them."""
    tools = [value for value in vars(injection).values() if isinstance(value, str) and value.startswith(ENV_PREFIX)]
    assert len(tools) == 6
    tools += [apt.MARK, broker.URL_VARIABLE, broker.MANAGEMENT_VARIABLE, store.URL_VARIABLE]
    assert unknown_variables(tools) == {}


def test_settings_do_not_change():
    """What was checked together stays together."""
    with pytest.raises(ValidationError):
        Settings().max_batch_size = 1


def test_urls_are_not_shown():
    """Neither repr nor str nor a dump as JSON holds a password."""
    settings = Settings(amqp_url=f"amqp://u:{SECRET}@h/", redis_url=f"redis://:{SECRET}@h/")
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_the_registrys_password_is_not_shown():
    """MLflow takes a user and password in its address."""
    settings = Settings(mlflow_tracking_uri=f"http://u:{SECRET}@mlflow:5000")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("changes", [{"amqp_url": f"http://:{SECRET}@h"}, {"redis_url": f"x://:{SECRET}@h"}])
def test_errors_do_not_show_urls(changes):
    """A refused URL is not repeated."""
    assert SECRET not in str(refusal(**changes))
