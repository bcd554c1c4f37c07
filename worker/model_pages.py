"""What `/model/info`, `/model/versions` and `/model/performance` show."""

from typing import Any

from schemas.time import format_datetime_ns
from worker.serving.model import Models, ModelVersion
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance


class ModelPages:
    """The pages, made when asked for.

    Args:
        models: what serves.
        performance: latencies by version.
        metrics: for the cache's hit rate.
    """

    def __init__(self, models: Models, performance: Performance, metrics: Metrics) -> None:
        self._models = models
        self._performance = performance
        self._metrics = metrics

    def info(self) -> dict[str, Any]:
        """The production version, its contract's figures and its card; null fields before there is one."""
        rollout = self._models.current
        if rollout is None:
            return {"model": None}
        contract = rollout.primary.contract
        return {
            "model": self._describe(rollout.primary),
            "sample_rate": contract.sample_rate,
            "min_samples": contract.required_samples,
            "receivers": contract.receivers.model_dump(mode="json"),
            "area": contract.area,
            "level": contract.level,
            "card": contract.card,
        }

    def versions(self) -> list[dict[str, Any]]:
        """Every version that serves, production first."""
        rollout = self._models.current
        return [self._describe(version) for version in rollout.versions] if rollout else []

    def performance(self) -> list[dict[str, Any]]:
        """The same with their figures."""
        hit_rate = round(self._metrics.cache_hit_rate, 4)
        rollout = self._models.current
        return [
            self._describe(version) | self._performance.summary(version.label) | {"cache_hit_rate": hit_rate}
            for version in (rollout.versions if rollout else ())
        ]

    @staticmethod
    def _describe(version: ModelVersion) -> dict[str, Any]:
        record, card = version.record, version.contract.card
        return {
            **version.reference(),
            "created_at": format_datetime_ns(record.created_ms * 1_000_000),
            "mlflow_run_id": record.run_id,
            "accuracy": card.get("accuracy_m", record.metrics.get("accuracy_m")),
            "training_samples": card.get("training_samples", record.metrics.get("training_samples")),
            "last_reloaded": format_datetime_ns(version.loaded_ns),
        }
