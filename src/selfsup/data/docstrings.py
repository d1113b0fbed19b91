"""The embedded corpus: English documentation of the packages that are installed anyway.

The strings are read from the source files; nothing of these packages is imported.  They are kept in
`home()/docstrings`, under a key made of the versions, so that a second call takes a moment.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from selfsup.data.home import home

_FORMAT = 1
_DISTRIBUTIONS = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "__pycache__"})
# torch/testing is public, torch/testing/_internal is its test suite.
_SKIPPED_PATHS = frozenset({("testing", "_internal")})
# `.format(**common_args)` fills these in at import; unfilled they are no English.
_PLACEHOLDER_LINE = re.compile(r"^[ \t]*\{\w+\}[ \t]*\n?", re.MULTILINE)
_ADDERS = ("newdoc", "add_docstr")


class DocString(NamedTuple):
    """One documentation string."""

    text: str
    """The text, with the indentation of the code taken off."""
    library: str
    """`python`, `numpy`, `scipy`, `sklearn` or `torch`."""
    module: str
    """The module it stands in, dotted: `numpy.linalg._linalg`."""


def read_docstrings(min_characters: int = 200) -> list[DocString]:
    """Every distinct documentation string of the standard library, numpy, scipy, sklearn and torch.

    The order is fixed: library, module, place in the file.  A library that is not installed is
    left out.  The first call takes some ten seconds, later ones a fraction of one.

    Args:
        min_characters: shorter strings are left out.
    """
    cached = home() / "docstrings" / f"{docstrings_key(min_characters)}.jsonl"
    with contextlib.suppress(OSError, ValueError, TypeError):  # absent or spoiled: made anew
        return _load(cached)
    found = _extract_all(min_characters)
    with contextlib.suppress(OSError):  # a read-only or full cache costs time, not the result
        _store(cached, found)
    return found


def docstrings_key(min_characters: int = 200) -> str:
    """16 hexadecimal digits that change with any version of what `read_docstrings` reads."""
    versions = {"python": sys.version, "format": str(_FORMAT), "min": str(min_characters)}
    for library in _roots():
        if library != "python":
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[library] = metadata.version(_DISTRIBUTIONS[library])
    return hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:16]


def _roots() -> dict[str, Path]:
    """Library to the folder of its sources, in the order of the corpus."""
    roots = {"python": Path(sysconfig.get_paths()["stdlib"])}
    for library in _DISTRIBUTIONS:
        spec = util.find_spec(library)  # a top-level name: finds, does not import
        if spec is not None and spec.origin is not None:
            roots[library] = Path(spec.origin).parent
    return roots


def _source_files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _SKIPPED_FOLDERS)
        if Path(folder).relative_to(root).parts[:2] in _SKIPPED_PATHS:
            subfolders.clear()
            continue
        yield from (Path(folder) / name for name in sorted(names) if name.endswith(".py"))


def _module_name(library: str, root: Path, file: Path) -> str:
    parts = list(file.relative_to(root).with_suffix("").parts)
    if library != "python":
        parts.insert(0, library)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _extract_all(min_characters: int) -> list[DocString]:
    jobs: list[tuple[str, str, Path]] = []
    for library, root in _roots().items():
        files = ((library, _module_name(library, root, file), file) for file in _source_files(root))
        jobs += sorted(files, key=lambda job: job[1])
    texts = _extract_in_processes([file for *_, file in jobs], min_characters)
    seen: set[str] = set()
    found: list[DocString] = []
    for (library, module, _), strings in zip(jobs, texts, strict=True):
        for text in strings:
            if text not in seen:
                seen.add(text)
                found.append(DocString(text, library, module))
    return found


def _extract_in_processes(files: list[Path], min_characters: int) -> list[list[str]]:
    """The strings of each file, read by a few child processes.

    Plain children rather than `multiprocessing`: spawning that from a user's script without a
    `__main__` guard would run the script again, and forking is unsafe once torch has threads.
    """
    count = max(1, min(4, os.cpu_count() or 1))
    package_root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package_root, *sys.path])}
    command = [sys.executable, "-W", "ignore", "-c"]
    command.append("from selfsup.data import docstrings; docstrings._child()")
    children: list[subprocess.Popen[bytes]] = []
    replies = [tempfile.TemporaryFile() for _ in range(count)]  # noqa: SIM115  # closed below
    try:
        for index, reply in enumerate(replies):
            share = [str(file) for file in files[index::count]]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=reply, env=environment)
            children.append(child)
            assert child.stdin is not None
            with child.stdin:
                child.stdin.write(json.dumps([min_characters, share]).encode())
        texts: list[list[str]] = [[] for _ in files]
        for index, (child, reply) in enumerate(zip(children, replies, strict=True)):
            if child.wait() != 0:
                raise RuntimeError(f"reading documentation strings failed: exit {child.returncode}")
            reply.seek(0)
            texts[index::count] = json.loads(reply.read())
        return texts
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for reply in replies:
            reply.close()


def _child() -> None:
    """Entry of a child process: a JSON order on standard input, the strings on standard output."""
    gc.disable()  # millions of tree nodes, no cycles: collecting costs more than half of the time
    min_characters, files = json.loads(sys.stdin.buffer.read())
    json.dump([extract_docstrings(Path(file), min_characters) for file in files], sys.stdout)


def extract_docstrings(file: Path, min_characters: int) -> list[str]:
    """The documentation strings of one Python file, in order; none when it does not parse."""
    try:
        source = file.read_bytes()
        if not _has_long_string(source, min_characters // 2):
            return []
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):  # templates, Python of the future
        return []
    texts = (_tidy(text) for text in _strings(tree))
    return [text for text in texts if len(text) >= min_characters and _is_text(text)]


def _has_long_string(source: bytes, characters: int) -> bool:
    """Whether triple quotes enclose that many bytes: most files fail, and need no parsing."""
    for quotes in (b'"""', b"'''"):
        parts = source.split(quotes)[1:-1]
        if parts and max(map(len, parts)) >= characters:
            return True
    return False


def _strings(tree: ast.Module) -> Iterator[str]:
    """Docstrings, and the strings of `add_newdoc(…)` and `add_docstr(…)`, in source order."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added_strings(node.value)
        below: list[ast.AST] = []
        for field in ("body", "handlers", "orelse", "finalbody"):
            value = getattr(node, field, None)
            if isinstance(value, list):  # an expression's `body` (lambda, a if b else c) is none
                below += value
        stack += reversed(below)


def _added_strings(call: ast.Call) -> Iterator[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if any(adder in name for adder in _ADDERS):
        for argument in call.args:
            for node in ast.walk(argument):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield _PLACEHOLDER_LINE.sub("", node.value)


def _tidy(text: str) -> str:
    return inspect.cleandoc(text).rstrip()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in examples of broken text
        return False
    return True


def _load(path: Path) -> list[DocString]:
    with path.open(encoding="utf-8") as lines:
        return [DocString(*json.loads(line)) for line in lines]


def _store(path: Path, found: list[DocString]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".docstrings-")
    try:
        with open(handle, "w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in found)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
