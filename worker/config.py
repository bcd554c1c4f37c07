"""Settings from the environment, frozen, checked against each other; docs/configuration.md is made of them."""

import os
import re
import socket
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from schemas.urls import parse_url
from worker.claim_stores import source_prefix
from worker.tls import check_url

ENV_PREFIX = "HEIMDALL_"
_OF_TOOLS = ("HEIMDALL_TEST_", "HEIMDALL_CHAOS_", "HEIMDALL_LOCAL_")
"""Beginnings of variables that are no settings and meant for others: tests, the fault suite, `make run`."""
_ALIKE = 0.8  # Of 0..1, where the prefix alone makes for 0.6.
_MIB = 1024 * 1024
_BATCHES_PREFETCHED = 4
_DECODED = 4  # Bytes of complex64 per byte of the tersest datatypes, ci8 and cu8.
# What MLflow's client takes for tracking and registry both. A bare path it takes too, and so a host without `http://`.
_REGISTRY_URI = re.compile(
    r"https?://[^/].*|databricks(://.+)?|file:/.+|sqlite(\+\w+)?:///.+|(postgresql|mysql|mssql)(\+\w+)?://.+"
)

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything an operator can set. Names of variables: `HEIMDALL_` and the upper-case field."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@127.0.0.1/"), description="URL of RabbitMQ; TLS: amqps://…?cafile=…."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="URL of Redis, 7.0 or later; TLS: rediss://…?ssl_ca_certs=…."
    )
    mlflow_tracking_uri: SecretStr = Field(
        SecretStr("http://127.0.0.1:5000"), description="MLflow server, http:// or https://; or sqlite:///…."
    )
    model_name: str = Field("heimdall", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Registered model to serve.")
    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        pattern=r"^[A-Za-z0-9_.-]{1,128}$",
        description="Name of this worker in logs, replies and control; by default host name and process id.",
    )

    routing_key: str = Field("localize", pattern=r"^localize(\.[A-Za-z0-9_-]+)?$", description="Of the jobs served.")
    queue: str = Field("heimdall.inference", pattern=r"^heimdall\.[A-Za-z0-9_.-]+$", description="Queue of the jobs.")
    declare_topology: bool = Field(
        True, description="Declare exchanges and queues; false = they exist, the worker has no configure permission."
    )
    queue_max_bytes: int = Field(1024 * _MIB, ge=_MIB, description="Bytes at which the job queue refuses publishers.")
    dead_max_bytes: int = Field(256 * _MIB, ge=_MIB, description="Bytes that heimdall.dead keeps.")
    prefetch_count: int = Field(128, ge=1, le=65_535, description="Jobs held at once, at least 4 batches.")
    confirm_timeout_s: float = Field(30.0, gt=0, description="Longest wait for a broker's confirm.")
    events_enabled: bool = Field(True, description="Publish each result and error to heimdall.events.")
    control_users: Names = Field(("operator",), description="Users whose commands count; comma-separated.")

    max_batch_size: int = Field(32, ge=1, le=1024, description="Samples of one ONNX run, jobs of one micro-batch.")
    max_wait_ms: float = Field(5.0, ge=0, description="Longest wait of a job for its batch, when not eager.")
    eager: bool = Field(True, description="Dispatch at once when the features stage is free.")
    max_body_bytes: int = Field(4 * _MIB, ge=1024, description="Largest body of a job.")
    memory_budget_bytes: int = Field(1024 * _MIB, ge=_MIB, description="Must hold the bodies, and a batch decoded.")
    claim_sources: Names = Field(
        (), description="Where datasets may be fetched from: s3://bucket/prefix, file:///folder; comma-separated."
    )
    claim_max_bytes: int = Field(64 * _MIB, ge=1024, description="Largest dataset that is fetched.")
    claim_memory_bytes: int = Field(64 * _MIB, ge=1024, description="Fetched datasets held at once.")
    claim_timeout_s: float = Field(20.0, gt=0, description="Longest time that one fetch may take.")
    stale_after_s: float = Field(10.0, gt=0, description="Age at which a result is flagged `stale`.")

    providers: Names = Field(("CPUExecutionProvider",), description="ONNX Runtime providers, best first.")
    intra_op_threads: int = Field(1, ge=1, description="Threads of one ONNX run.")
    require_golden: bool = Field(True, description="Refuse a model without golden vectors.")
    registry_poll_s: float = Field(30.0, gt=0, description="How often the registry is looked at without a command.")
    state_dir: Path | None = Field(
        None, description="Where the models that served last are kept, for a start while the registry is down."
    )
    proof_timeout_s: float = Field(45.0, gt=0, description="Longest time a version may take to load and prove itself.")
    proof_memory_bytes: int = Field(4096 * _MIB, ge=64 * _MIB, description="Memory it may use for that.")
    reload_jitter_s: float = Field(2.0, ge=0, description="Random delay before a reload, so that a fleet spreads out.")

    result_ttl_s: int = Field(3600, ge=1, description="Life of a stored outcome.")
    redis_hold_s: float = Field(300.0, gt=0, description="How long held jobs wait for Redis before they are released.")
    redis_timeout_s: float = Field(5.0, gt=0, description="Longest wait for one answer of Redis.")
    cache_enabled: bool = Field(True, description="Cache model output by input.")
    cache_ttl_s: int = Field(600, ge=1, description="Life of a cached output.")

    http_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of metrics, health and model information; 0.0.0.0 = every one."
    )
    http_port: int = Field(8080, ge=0, le=65_535, description="Its port; 0 = any free one, which is logged.")
    live_timeout_s: float = Field(60.0, gt=0, description="Held jobs without any progress for so long: not alive.")
    grace_s: float = Field(30.0, gt=5, description="Time between SIGTERM and SIGKILL; 5 s of it are kept in reserve.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level logged.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object per line, or for a terminal.")

    @field_validator("control_users", "providers", "claim_sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        check_url(value.get_secret_value())
        _check_redis(value.get_secret_value())
        return value

    @field_validator("amqp_url")
    @classmethod
    def _is_amqp_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError("must start with amqp:// or amqps://")
        check_url(value.get_secret_value())
        return value

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_registry_uri(cls, value: SecretStr) -> SecretStr:
        uri = value.get_secret_value()
        if not _REGISTRY_URI.fullmatch(uri):
            raise ValueError(
                "must be http://HOST or https://HOST; or sqlite:///FILE, postgresql://…, mysql://…, mssql://…, "
                "file:///FOLDER, databricks or databricks://PROFILE"
            )
        if uri.startswith("http"):
            parse_url(uri)
        elif not uri.startswith(("databricks", "file:")):
            _check_database(uri)
        return value

    @field_validator("claim_sources")
    @classmethod
    def _are_claim_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        prefixes = tuple(map(source_prefix, value))
        if any(prefix.startswith("s3://") for prefix in prefixes) and find_spec("boto3") is None:
            raise ValueError("s3:// needs boto3: pip install 'heimdall-worker[worker,s3]'")
        return prefixes

    @model_validator(mode="after")
    def _claims_fit(self) -> Self:
        if not self.claim_sources:
            return self
        if self.claim_max_bytes > self.claim_memory_bytes:
            raise ValueError(
                f"HEIMDALL_CLAIM_MAX_BYTES {self.claim_max_bytes} is over HEIMDALL_CLAIM_MEMORY_BYTES "
                f"{self.claim_memory_bytes}: the largest dataset would never be fetched"
            )
        if self.claim_timeout_s >= self.live_timeout_s:
            raise ValueError(
                f"HEIMDALL_CLAIM_TIMEOUT_S {self.claim_timeout_s:g} is not below HEIMDALL_LIVE_TIMEOUT_S "
                f"{self.live_timeout_s:g}: a slow store would make the worker look dead"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.prefetch_count < _BATCHES_PREFETCHED * self.max_batch_size:
            raise ValueError(
                f"HEIMDALL_PREFETCH_COUNT {self.prefetch_count} is less than {_BATCHES_PREFETCHED} x "
                f"HEIMDALL_MAX_BATCH_SIZE {self.max_batch_size}: the stages (filling, features, session, settling) "
                "would starve"
            )
        held = (self.prefetch_count + _DECODED * self.max_batch_size) * self.max_body_bytes
        fetched = (1 + _DECODED) * self.claim_memory_bytes if self.claim_sources else 0
        if held + fetched > self.memory_budget_bytes:
            more = f" and {1 + _DECODED} x HEIMDALL_CLAIM_MEMORY_BYTES {fetched} bytes" if fetched else ""
            raise ValueError(
                f"(HEIMDALL_PREFETCH_COUNT + {_DECODED} x HEIMDALL_MAX_BATCH_SIZE) x HEIMDALL_MAX_BODY_BYTES is {held} "
                f"bytes{more}, over HEIMDALL_MEMORY_BUDGET_BYTES {self.memory_budget_bytes}: lower one of them, or "
                "raise the budget"
            )
        return self


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the setting whose name is like it, if one is.

    Args:
        environment: names of all variables.
    """
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    ours = [name for name in sorted(environment) if name.upper().startswith(ENV_PREFIX)]
    strangers = [name for name in ours if name.upper() not in known and not name.upper().startswith(_OF_TOOLS)]
    return {name: next(iter(get_close_matches(name.upper(), known, 1, _ALIKE)), None) for name in strangers}


def _check_redis(url: str) -> None:
    """Refuse a URL from which the client makes no connection, or takes another database than it names."""
    parsed = parse_url(url)
    if parsed.scheme != "unix" and not re.fullmatch(r"(/[0-9]*)?", parsed.path):
        raise ValueError("its database, after the host, must be a number, such as /0")
    try:
        pool: Any = BlockingConnectionPool.from_url(url)
        pool.make_connection()  # Makes the object, and opens nothing.
    except (AttributeError, RedisError, TypeError, ValueError) as error:
        names = ", ".join(parsed.query)
        raise ValueError(f"the Redis client does not take its parameters ({names}): {error}") from None


def _check_database(uri: str) -> None:
    """Refuse a database that MLflow could not open from here; its own error would end the worker much later."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - half a second that only such a registry costs
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise ValueError(f"needs a driver that is not installed: {error}") from None
    except (SQLAlchemyError, ValueError):  # It may quote a part of the password.
        raise ValueError("is no URL of a database that SQLAlchemy reads") from None
