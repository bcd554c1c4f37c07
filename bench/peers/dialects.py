"""How the bridge asks each server, and reads what it answers. Pure.

A server that takes raw bytes gets a frame: two lengths (job id, metadata), then id, metadata and dataset. Its answer is
two lines, result and event: JSON as the recipe writes it has no line break.
"""

import base64
import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import orjson

from bench.recipe import Answer, RawJob

_LENGTHS: Final = struct.Struct("<II")
_ELEMENT: Final = struct.Struct("<I")
_ROUND: Final = 512
OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
BINARY_HEADER: Final = "Inference-Header-Content-Length"
"""Of the binary extension of the Open Inference Protocol: where the JSON ends and the tensors begin."""
HEAD, BODY, ANSWER = "head", "body", "answer"
"""Tensors, where a server knows tensors."""


class Request(NamedTuple):
    """An HTTP request's body and headers."""

    body: bytes
    headers: dict[str, str]


class Dialect(NamedTuple):
    """How a server is spoken to.

    Attributes:
        path: requests go to.
        ask: the request for one job.
        read: the answer in a response's body and headers.
    """

    path: str
    ask: Callable[[RawJob], Request]
    read: Callable[[bytes, Mapping[str, str]], Answer]


def pack_job(job: RawJob) -> bytes:
    """A job as one frame."""
    job_id, sigmf = job.job_id.encode(), _bytes(job.sigmf)
    return b"".join((_LENGTHS.pack(len(job_id), len(sigmf)), job_id, sigmf, job.body))


def unpack_job(frame: bytes) -> RawJob:
    """The job in a frame."""
    id_bytes, sigmf_bytes = _LENGTHS.unpack_from(frame)
    sigmf_at = _LENGTHS.size + id_bytes
    body_at = sigmf_at + sigmf_bytes
    return RawJob(frame[_LENGTHS.size : sigmf_at].decode(), frame[sigmf_at:body_at], frame[body_at:])


def pack_answer(answer: Answer) -> bytes:
    """An answer as two lines."""
    return answer.result + b"\n" + answer.event


def unpack_answer(lines: bytes) -> Answer:
    """The answer in two lines."""
    result, _, event = lines.partition(b"\n")
    return Answer(result, event)


def _ask_frame(job: RawJob) -> Request:
    return Request(pack_job(job), {"Content-Type": OCTETS})


def _read_lines(body: bytes, _headers: Mapping[str, str]) -> Answer:
    return unpack_answer(body)


def _ask_bento(job: RawJob) -> Request:
    """The argument of a batchable API by name: a list of one. JSON has no bytes, so the frame travels as base64."""
    return Request(b'{"jobs":["' + base64.b64encode(pack_job(job)) + b'"]}', {"Content-Type": JSON})


def _read_bento(body: bytes, _headers: Mapping[str, str]) -> Answer:
    return unpack_answer(orjson.loads(body)[0].encode())


def _ask_mlserver(job: RawJob) -> Request:
    """The Open Inference Protocol in JSON: a BYTES tensor of one element, as base64."""
    head = b'{"inputs":[{"name":"head","shape":[1,1],"datatype":"BYTES",'
    data = b'"parameters":{"content_type":"base64"},"data":["' + base64.b64encode(pack_job(job)) + b'"]}]}'
    return Request(head + data, {"Content-Type": JSON})


def _read_mlserver(body: bytes, _headers: Mapping[str, str]) -> Answer:
    return unpack_answer(orjson.loads(body)["outputs"][0]["data"][0].encode())


def _ask_triton(job: RawJob) -> Request:
    """The Open Inference Protocol with its binary extension: id and metadata as one tensor, the dataset as it is.

    Only requests of equal shapes become one batch, so that the first tensor is filled up to a round length.
    """
    head = pack_job(job._replace(body=b""))
    head += bytes(-len(head) % _ROUND)
    document = {
        "inputs": [_uint8(HEAD, len(head)), _uint8(BODY, len(job.body))],
        "outputs": [{"name": ANSWER, "parameters": {"binary_data": True}}],
    }
    header = orjson.dumps(document)
    return Request(header + head + job.body, {"Content-Type": OCTETS, BINARY_HEADER: str(len(header))})


def _read_triton(body: bytes, headers: Mapping[str, str]) -> Answer:
    return unpack_answer(body[int(headers[BINARY_HEADER]) + _ELEMENT.size :])


def _uint8(name: str, size: int) -> dict[str, object]:
    return {"name": name, "datatype": "UINT8", "shape": [1, size], "parameters": {"binary_data_size": size}}


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


DIALECTS: Final[dict[str, Dialect]] = {
    "mosec": Dialect("/inference", _ask_frame, _read_lines),
    "litserve": Dialect("/predict", _ask_frame, _read_lines),
    "bentoml": Dialect("/locate", _ask_bento, _read_bento),
    "mlserver": Dialect("/v2/models/locate/infer", _ask_mlserver, _read_mlserver),
    "ray_serve": Dialect("/", _ask_frame, _read_lines),
    "pytriton": Dialect("/v2/models/locate/infer", _ask_triton, _read_triton),
}
