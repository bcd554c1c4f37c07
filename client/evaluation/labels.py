"""Labelled recordings: SigMF whose annotations say where the transmitter was.

| annotation field  | value                                                                                  |
|-------------------|----------------------------------------------------------------------------------------|
| `heimdall:truth`  | GeoJSON Point: where the transmitter was during the annotated samples                  |
| `heimdall:block`  | optional string or number: scenes of one block are not independent (a place, a drive)  |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from client.errors import CaptureError
from client.files import COLLECTION_SUFFIX
from client.sigmf_metadata import CollectionOnDisk, GlobalOnDisk, read_as
from client.sigmf_recording import META_SUFFIX
from schemas.geo import Point
from schemas.sigmf import SampleRange

TRUTH: Final = "heimdall:truth"
BLOCK: Final = "heimdall:block"


@dataclass(frozen=True, slots=True)
class Label:
    """Where the transmitter of one sample was.

    Attributes:
        truth: its place.
        block: what the scene shares with others of the same block; None = independent.
    """

    truth: Point
    block: str | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A recording or collection, still on disk.

    Attributes:
        path: what `client.load` reads.
        name: for people: the path within the dataset, without suffix.
        labels: one per sample to locate, in order: a batch recording has several.
    """

    path: Path
    name: str
    labels: tuple[Label, ...]


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    sample_start: int = Field(0, alias="core:sample_start", ge=0)
    sample_count: int | None = Field(None, alias="core:sample_count", ge=0)
    truth: Point | None = Field(None, alias=TRUTH)
    block: str | int | None = Field(None, alias=BLOCK)

    def covers(self, sample: SampleRange | None) -> bool:
        """Whether it annotates any part of a sample; None = the whole recording."""
        if sample is None:
            return True
        end = float("inf") if self.sample_count is None else self.sample_start + self.sample_count
        return self.sample_start < sample.sample_start + sample.sample_count and sample.sample_start < end


class _Meta(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    global_: GlobalOnDisk = Field(alias="global")
    annotations: list[_Annotation] = Field(default_factory=list)


def find_labelled(dataset: Path) -> list[Labelled]:
    """Read the labels of every recording and collection under a directory.

    Raises:
        CaptureError: no such directory, nothing in it, or a recording without a usable label; the message names it.
    """
    if not dataset.is_dir():
        raise CaptureError(f"{dataset}: {'a file' if dataset.is_file() else 'no such directory'}; {_WANTED}")
    collections = sorted(dataset.rglob(f"*{COLLECTION_SUFFIX}"))
    streams = {path: _streams(path) for path in collections}
    taken = {meta for metas in streams.values() for meta in metas}
    recordings = [path for path in sorted(dataset.rglob(f"*{META_SUFFIX}")) if path not in taken]
    found = [_labelled(path, dataset, [path]) for path in recordings]
    found += [_labelled(path, dataset, metas) for path, metas in streams.items()]
    if not found:
        raise CaptureError(f"{dataset}: it holds no {META_SUFFIX} and no {COLLECTION_SUFFIX}; {_WANTED}")
    return found


_WANTED: Final = f"a dataset is a directory of SigMF recordings whose annotations carry {TRUTH}"


def _streams(collection: Path) -> list[Path]:
    names = read_as(CollectionOnDisk, collection).collection.streams
    return [collection.with_name(stream.name + META_SUFFIX) for stream in names]


def _labelled(path: Path, dataset: Path, metas: Sequence[Path]) -> Labelled:
    documents = [read_as(_Meta, meta) for meta in metas]
    annotations = [one for document in documents for one in document.annotations if one.truth is not None]
    samples: Sequence[SampleRange | None] = (documents[0].global_.samples or ()) if len(metas) == 1 else ()
    labels = tuple(_label(path, annotations, sample) for sample in samples or (None,))
    return Labelled(path, str(path.relative_to(dataset).with_suffix("")), labels)


def _label(path: Path, annotations: Sequence[_Annotation], sample: SampleRange | None) -> Label:
    where = f"{path}" if sample is None else f"{path}: the sample from {sample.sample_start} on"
    labels = set(_labels(annotations, sample))
    if not labels:
        raise CaptureError(
            f"{where}: no annotation with {TRUTH}; give it one such as "
            f'{{"core:sample_start": 0, "{TRUTH}": {{"type": "Point", "coordinates": [7.672, 45.044]}}}}'
        )
    if len(labels) > 1:
        raise CaptureError(f"{where}: {len(labels)} different labels; one sample to locate has one {TRUTH}")
    return labels.pop()


def _labels(annotations: Sequence[_Annotation], sample: SampleRange | None) -> Iterator[Label]:
    for annotation in annotations:
        if annotation.truth is not None and annotation.covers(sample):
            yield Label(annotation.truth, None if annotation.block is None else str(annotation.block))
