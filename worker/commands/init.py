"""`heimdall model init`: draft a contract from a graph, and ask what the graph does not tell."""

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.text import Text

from worker.commands.candidate import NoSuchModel, check_readable
from worker.commands.draft import Draft, draft
from worker.commands.onnx_file import OnnxFile, read_onnx
from worker.serving.contract import METADATA_KEY


def init_contract(model: Path, output: Path | None, console: Console, *, force: bool) -> None:
    """Write a draft to a file or to standard output, and the questions to the console.

    Raises:
        NoSuchModel: there is no model to read, or the output exists already.
    """
    check_readable(model)
    if output is not None and output.exists() and not force:
        raise NoSuchModel(f"{output}: it exists already; give another -o, or --force to replace it")
    try:
        file = read_onnx(model)
    except ValueError as error:
        raise NoSuchModel(f"{model}: it is no ONNX model: {error}") from error
    drafted = draft(file)
    text = orjson.dumps(drafted.document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    else:
        _write(output, text)
    _explain(model, output, file, drafted, console)


def _write(output: Path, text: bytes) -> None:
    try:
        output.write_bytes(text)
    except OSError as error:
        raise NoSuchModel(f"{output}: {error.strerror}") from error


def _explain(model: Path, output: Path | None, file: OnnxFile, drafted: Draft, console: Console) -> None:
    if drafted.family is not None:
        console.print(f"This looks like {drafted.family}: what is known of its training is filled in.")
    if METADATA_KEY in file.metadata:
        console.print("The model holds a contract already; this draft is from its graph alone.")
    for tensor in file.inputs:
        if tensor.shape and isinstance(tensor.shape[0], int):
            console.print(f"The batch of {tensor} is fixed: export it with a dynamic batch axis, or it cannot serve.")
    _list("To fill in (null in the draft):", drafted.missing, console)
    _list("To make sure of (a likely value, or none, is filled in):", drafted.unsure, console)
    place = output or "contract.json"
    console.print(f"\nThen: heimdall model check {model} --contract {place}", soft_wrap=True)


def _list(title: str, questions: dict[str, str], console: Console) -> None:
    if not questions:
        return
    console.print(f"\n{title}")
    for place, question in questions.items():
        console.print(Text.assemble("  ", (place, "bold"), ": ", question))
