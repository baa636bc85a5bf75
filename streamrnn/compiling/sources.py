"""Which sources a module is made of: its own, and those of all modules of streamrnn that it imports."""

import functools
import hashlib
import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(
    rf"^\s*(?:from ({_PACKAGE.name}[\w.]*) import (\([^)]*\)|.*)|import ({_PACKAGE.name}[\w.]*))",
    re.MULTILINE,
)


def digest_of(source: Path) -> str:
    """SHA-256, in hex, of the sources of a module, here or elsewhere, that stands at ``source``."""
    digest = hashlib.sha256()
    for path in sorted(sources_of(source)):
        name = path.relative_to(_PACKAGE) if path.is_relative_to(_PACKAGE) else path.name
        digest.update(f"{name}\n".encode())
        digest.update(_digest_of_file(path))
    return digest.hexdigest()


@functools.cache
def _digest_of_file(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def sources_of(source: Path) -> set[Path]:
    """The files that a module comes from: itself, and those of the package."""
    found, left = set[Path](), [source]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += _imported(path)
    return found


@functools.cache
def _imported(source: Path) -> list[Path]:
    """The files that a module names in its imports, wherever in it they stand."""
    found = dict[Path, None]()
    for base, names, whole in _IMPORT.findall(source.read_text()):
        module = _PACKAGE.parent.joinpath(*(base or whole).split("."))
        maybe = [module.with_suffix(".py"), module / "__init__.py"]
        maybe += [module / f"{name}.py" for name in re.findall(r"\w+", names)]
        found |= dict.fromkeys(path for path in maybe if path.is_file())
    return [*found]
