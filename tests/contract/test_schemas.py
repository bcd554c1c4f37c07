"""The published JSON Schemas: valid themselves, one with the models, and true of every example in the documentation."""

import copy
from typing import Any

import jsonschema
import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from pydantic import BaseModel, TypeAdapter, ValidationError

from docs.json_schemas import ID_PREFIX, SCHEMAS, WireSchema
from schemas.sigmf import SigmfMetadata
from tests.contract.examples import ROOT, Example, example, examples, schema
from worker.errors import JobError
from worker.reading import read_json

BY_NAME = {wire.name: wire for wire in SCHEMAS}
SIGMF = example("schemas/heimdall.sigmf-ext.md", "sigmf-metadata")
JSON_JOB = {"iq_data": [[0.1, 0.2]] * 4, "sample_rate": 48_000}


def test_every_schema_file_satisfies_its_metaschema() -> None:
    """check-jsonschema takes them as JSON Schema 2020-12."""
    files = [str(path) for path in sorted(ROOT.glob("schemas/*.schema.json"))]
    assert len(files) == len(SCHEMAS)
    outcome = CliRunner().invoke(check_jsonschema, ["--check-metaschema", *files])
    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize("wire", SCHEMAS, ids=lambda wire: wire.name)
def test_every_schema_has_its_own_name(wire: WireSchema) -> None:
    """`$id` is a URN of the file's name, and the dialect is stated."""
    document = schema(wire.name)
    assert document["$id"] == ID_PREFIX + wire.name
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("found", examples(), ids=str)
def test_every_example_is_what_it_says_it_is(found: Example) -> None:
    """Each JSON block names its schema and is valid by it, and by the model the schema is made from."""
    assert found.schema is not None, "put <!-- schema: name --> (or none) before the block"
    document = found.document
    if found.schema == "none":
        return
    assert by_schema(found.schema, document)
    assert by_model(BY_NAME[found.schema], document)


def test_every_schema_but_the_headers_has_an_example() -> None:
    """A reader finds one of each kind."""
    shown = {found.schema for found in examples()}
    assert {wire.name for wire in SCHEMAS} - shown <= {"job-headers", "event-complete"}


def test_an_event_of_a_result_and_of_one_sample_of_a_batch_job_validate() -> None:
    """The event's data is a result, or a prediction with its job's fields."""
    result, batch = example("docs/wire.md", "result"), example("docs/wire.md", "batch-result")
    of_job = {"inference_time_ms", "timings_ms", "predictions", "total_time_ms", "samples_per_second"}
    sample = {name: value for name, value in batch.items() if name not in of_job} | batch["predictions"][0]
    for data in (result, sample):
        event = {"event": "localization.complete", "timestamp": result["timestamp"], "data": data}
        assert by_schema("event-complete", event)
        assert by_model(BY_NAME["event-complete"], event)


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"iq_data": [[[0.1, 0.2]] * 4] * 3}, True),
        ({"iq_data": None, "iq_samples": [[[0.1, 0.2]] * 4]}, True),
        ({"iq_samples": [[[0.1, 0.2]] * 4]}, False),
        ({"iq_data": None}, False),
        ({"iq_data": [[0.1, 0.2, 0.3]] * 4}, False),
        ({"iq_data": [0.1, 0.2]}, False),
        ({"iq_data": []}, False),
        ({"iq_data": None, "iq_samples": [[[0.1, 0.2]] * 4] * 101}, False),
        ({"sample_rate": 0}, False),
        ({"unknown": 1}, False),
        ({"receivers": [{"id": "a", "geolocation": {"type": "Point", "coordinates": [200, 45]}}]}, False),
    ],
)
def test_the_schema_of_a_json_job_decides_as_the_worker_does(changes: dict[str, Any], *, valid: bool) -> None:
    """What the schema takes the worker takes: also the shape of the IQ, which the model itself leaves to numpy."""
    document = JSON_JOB | changes
    assert by_schema("job-json", document) is valid
    try:
        read_json(TypeAdapter(Any).dump_json(document))
        read = True
    except JobError:
        read = False
    assert read is valid


@pytest.mark.parametrize(
    ("where", "name", "value", "valid"),
    [
        ("global", "core:offset", 0, True),
        ("global", "core:offset", 8, False),
        ("global", "core:metadata_only", False, True),
        ("global", "core:metadata_only", True, False),
        ("global", "core:dataset", "recording.iq", False),
        ("global", "core:trailing_bytes", 16, False),
        ("global", "core:description", "anything", True),
        ("captures", "core:header_bytes", 0, True),
        ("captures", "core:header_bytes", 512, False),
        ("captures", "core:global_index", 3, True),
    ],
)
def test_fields_that_describe_a_file_are_refused_alike(where: str, name: str, value: object, *, valid: bool) -> None:
    """The schema and the model agree on what a message may not carry."""
    document = copy.deepcopy(SIGMF)
    (document[where] if where == "global" else document[where][0])[name] = value
    assert by_schema("sigmf-metadata", document) is valid
    assert by_model(BY_NAME["sigmf-metadata"], document) is valid


def test_the_extension_must_be_declared() -> None:
    """Fields of the namespace without the extension, or with another major version of it, are refused."""
    for extensions in ([], [{"name": "heimdall", "version": "2.0.0", "optional": False}]):
        document = copy.deepcopy(SIGMF)
        document["global"]["core:extensions"] = extensions
        with pytest.raises(ValidationError):
            SigmfMetadata.model_validate(document)


def by_schema(name: str, document: object) -> bool:
    """Whether the published schema takes it."""
    published = schema(name)
    return bool(jsonschema.Draft202012Validator(published).is_valid(document))


def by_model(wire: WireSchema, document: object) -> bool:
    """Whether the pydantic model takes it."""
    try:
        if isinstance(wire.model, TypeAdapter):
            wire.model.validate_python(document)
        else:
            assert issubclass(wire.model, BaseModel)
            wire.model.model_validate(document)
    except ValidationError:
        return False
    return True
