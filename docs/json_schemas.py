"""JSON Schemas (2020-12) of everything that crosses the wire, from the pydantic models."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from schemas.claim import Claim
from schemas.control import COMMAND, CommandReply
from schemas.events import CompleteEvent, FailedEvent
from schemas.job import JobHeaders, JsonJob
from schemas.problems import Problem
from schemas.result import BatchResult, LocalizationResult
from schemas.sigmf import SigmfMetadata
from worker.serving.contract import ModelContract

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX: Final = "urn:heimdall:schema:"

Document = dict[str, Any]


def _unchanged(_: Document) -> None:
    """Nothing to add."""


def _one_kind_of_iq(schema: Document) -> None:
    schema["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "array"}}} for name in ("iq_data", "iq_samples")
    ]


def _transport_form(schema: Document) -> None:
    """Fields that describe a file on disk: absent, or a value that says nothing (null, false, 0 or empty)."""
    nothing = {"enum": [None, False, 0, ""], "description": "Describes a file; a message carries the dataset alone."}
    definitions = schema["$defs"]
    definitions["SigmfGlobal"]["properties"]["core:offset"]["const"] = 0
    for name in ("core:dataset", "core:metadata_only", "core:trailing_bytes"):
        definitions["SigmfGlobal"]["properties"][name] = nothing
    definitions["SigmfCapture"]["properties"]["core:header_bytes"] = nothing


@dataclass(frozen=True, slots=True)
class WireSchema:
    """One schema file.

    Attributes:
        name: of the file, without `.schema.json`.
        title: what it describes.
        model: it is made from.
        complete: adds what a validator of the model checks in code and JSON Schema can say too.
    """

    name: str
    title: str
    model: type[BaseModel] | TypeAdapter[Any]
    complete: Callable[[Document], None] = _unchanged

    def document(self) -> Document:
        """The schema, by the names that travel."""
        if isinstance(self.model, TypeAdapter):
            made = self.model.json_schema(by_alias=True)
        else:
            made = self.model.model_json_schema(by_alias=True)
        self.complete(made)
        made.pop("title", None)
        comment = "Generated from the pydantic models by `python -m docs.generate`; do not edit."
        head = {"$schema": DIALECT, "$id": ID_PREFIX + self.name, "$comment": comment, "title": self.title}
        return head | made


SCHEMAS: Final = (
    WireSchema("job-headers", "Headers of a job that the worker reads", JobHeaders),
    WireSchema("job-json", "Body of an application/json job", JsonJob, _one_kind_of_iq),
    WireSchema("claim", "Where the dataset of a job lies, in the header `claim`", Claim),
    WireSchema("sigmf-metadata", "SigMF metadata of a job, in the header `sigmf`", SigmfMetadata, _transport_form),
    WireSchema("result", "Answer to a job with one sample", LocalizationResult),
    WireSchema("batch-result", "Answer to a batch job", BatchResult),
    WireSchema("problem", "Answer to a job that has no position (RFC 9457)", Problem),
    WireSchema("event-complete", "Event localization.complete", CompleteEvent),
    WireSchema("event-failed", "Event localization.failed", FailedEvent),
    WireSchema("control-command", "Command on heimdall.control", COMMAND),
    WireSchema("control-reply", "A worker's answer to a command", CommandReply),
    WireSchema("model-contract", "Contract of a model", ModelContract),
)


def schema_files() -> Iterator[tuple[str, str]]:
    """Path, from the project's root, and text of each schema file."""
    for schema in SCHEMAS:
        text = json.dumps(schema.document(), indent=2, ensure_ascii=False)
        yield f"schemas/{schema.name}.schema.json", text + "\n"
