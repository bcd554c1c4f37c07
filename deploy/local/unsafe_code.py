"""Finds what would run code that came as data: pickles in every disguise, eval, YAML with tags, models by pyfunc.

It reads the syntax trees; nothing is imported. What it finds is a line to look at, not a proof: a name that is only
computed at run time escapes it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODULES: Final = frozenset(
    {"pickle", "_pickle", "cPickle", "pickle5", "dill", "cloudpickle", "joblib", "marshal", "shelve", "multiprocessing"}
)
"""Modules that load code as data; multiprocessing pickles whatever goes between its processes."""

CALLS: Final = {
    "eval": "runs text",
    "exec": "runs text",
    "__import__": "imports by a computed name",
    "yaml.load": "makes any object; use safe_load",
    "yaml.unsafe_load": "makes any object; use safe_load",
    "yaml.full_load": "makes objects; use safe_load",
    "torch.load": "reads a pickle",
    "pandas.read_pickle": "reads a pickle",
    "pd.read_pickle": "reads a pickle",
    "mlflow.pyfunc.load_model": "runs the model's own code",
    "pyfunc.load_model": "runs the model's own code",
    "logging.config.listen": "runs what a socket says",
}
_NUMPY_LOADS: Final = ("np.load", "numpy.load")
_SHELLS: Final = ("subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output", "os.system")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A line that should not be there.

    Attributes:
        file: from the root that was searched.
        line: of the file, from 1.
        name: of the module or function.
        why: what is wrong with it.
    """

    file: str
    line: int
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name} {self.why}"


def search(root: Path, packages: tuple[str, ...]) -> list[Finding]:
    """Every finding in the Python files of these folders."""
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    return [
        Finding(str(file.relative_to(root)), line, name, why)
        for file in files
        for line, name, why in findings(file.read_text(encoding="utf-8"))
    ]


def findings(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and reason of each finding in a module's source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from _imports(node.lineno, [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            yield from _imports(node.lineno, [node.module or ""])
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is(node.value, value=False):
            yield node.value.lineno, "allow_pickle", "must be False"


def _imports(line: int, names: list[str]) -> Iterator[tuple[int, str, str]]:
    for name in names:
        if name.split(".")[0] in MODULES:
            yield line, name, "loads code as data"


def _call(node: ast.Call) -> Iterator[tuple[int, str, str]]:
    name = ast.unparse(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in CALLS:
        yield node.lineno, name, CALLS[name]
    if name in _NUMPY_LOADS and "allow_pickle" not in keywords:
        yield node.lineno, name, "must say allow_pickle=False"
    if name in _SHELLS and ("shell" in keywords or name == "os.system"):
        yield node.lineno, name, "goes through a shell"


def _is(node: ast.expr, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
