"""Commands and programs on the pages name what there is: commands with these options, targets, modules, files."""

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from client.cli import app
from tests.contract.examples import PAGES, ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SEPARATORS = {"|", "||", "&&", ";"}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HEIMDALL = typer.main.get_command(app)


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Page and text of every block of a kind."""
    for page in (ROOT / "README.md", *PAGES):
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == kind:
                yield page.name, text


def commands() -> list[tuple[str, list[str]]]:
    """Page and words of every simple command, without assignments in front."""
    found = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*split(line), ";"]:
                if word in SEPARATORS:
                    if words:
                        found.append((page, words))
                    words = []
                elif words or not re.match(r"[A-Z_]+=", word):
                    words.append(word)
    return found


def split(line: str) -> list[str]:
    """Words of a line; those of a line that only begins a quotation are no command of ours."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.partition('"$(')[0].split()


def named(program: str) -> list[tuple[str, list[str]]]:
    """The commands that begin with a program, wherever it lies."""
    return [(page, words) for page, words in commands() if Path(words[0]).name == program]


@pytest.mark.parametrize(("page", "words"), named("heimdall"), ids=lambda value: "" if isinstance(value, str) else None)
def test_a_command_exists_with_its_options(page: str, words: list[str]) -> None:
    """Every subcommand and option of `heimdall`."""
    command: Any = HEIMDALL
    for word in words[1:]:
        if getattr(command, "commands", None) and not word.startswith("-"):
            assert word in command.commands, (page, words)
            command = command.commands[word]
        elif re.match(r"--?[a-z]", word):
            known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
            assert word.split("=")[0] in known | {"-h", "--help"}, (page, words)
    assert not getattr(command, "commands", None), (page, words)


def test_targets_exist_with_their_variables() -> None:
    """Every `make target VARIABLE=…`."""
    assert named("make")
    for page, words in named("make"):
        for word in words[1:]:
            variable, assigned, _ = word.partition("=")
            pattern = rf"\$\({variable}\)" if assigned else rf"^{variable}:"
            assert re.search(pattern, MAKEFILE, re.MULTILINE), (page, words)


def test_modules_exist_with_their_options() -> None:
    """Every `python -m module --option`, where the module is ours."""
    found = [(page, words) for name in ("python", "python3") for page, words in named(name) if words[1:2] == ["-m"]]
    assert found
    for page, words in found:
        spec = importlib.util.find_spec(words[2])
        assert spec is not None, (page, words)
        assert spec.origin is not None
        source = Path(spec.origin)
        texts = source.parent.glob("*.py") if source.name == "__init__.py" else [source]
        written = "".join(text.read_text(encoding="utf-8") for text in texts)
        for option in words[3:]:
            assert not option.startswith("--") or f'"{option}"' in written, (page, words)


def test_files_of_the_project_exist() -> None:
    """Every path below its directories."""
    ours = re.compile(r"(deploy|examples|docs|bench|schemas|tests)/[\w./-]+")
    for page, words in commands():
        for word in words:
            if ours.fullmatch(word):
                assert (ROOT / word).exists(), (page, words)


@pytest.mark.parametrize(
    ("page", "text"), list(blocks("python")), ids=lambda value: value if value.endswith(".md") else ""
)
def test_a_program_finds_what_it_imports(page: str, text: str) -> None:
    """Every program is one, and its names are there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), page
