"""What every definition says, as a digest; ``python tests/definitions.py`` records them all.

A definition's text is its class or function with all that it uses of the package, as a syntax tree
without docstrings, comments, annotations and what errors say, so that only what can change a number
counts. What all definitions share (the base class of methods, the features) is recorded once.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from wcordbench import registry
from wcordbench.definitions import PACKAGE

RECORD = Path(__file__).with_suffix(".txt")
#: modules that no number comes from
SILENT = {f"wcordbench.{m}" for m in ("definitions", "errors", "options", "registry")}
SILENT |= {"wcordbench.data.notes"}
#: modules that all definitions use: a line of their own, and no part of any definition's
SHARED = ("wcordbench.methods.base", "wcordbench.models.features", "wcordbench.data.base")
#: what a decorator says for people, or for the identity itself
NOT_TEXT = {"title", "paper", "added", "files", "reads"}

Found = tuple[str, str]


def digests() -> dict[str, tuple[int, str]]:
    """Version and digest of every definition, by kind and name, and of what they share."""
    found = {f"shared {module}": (1, _digest(module, _names(module))) for module in SHARED}
    for kind in registry.KINDS:
        for entry in registry.catalogue(kind).values():
            if entry.is_plugin:
                continue
            module = ".".join(entry.file.relative_to(PACKAGE.parent).with_suffix("").parts)
            said = {k: v for k, v in sorted(entry.meta.items()) if k not in NOT_TEXT}
            found[f"{kind} {entry.name}"] = (
                entry.version,
                _digest(module, [entry.qualname], repr(said)),
            )
    return found


def recorded() -> dict[str, list[tuple[int, str]]]:
    """What the record says, by name; a merge can leave two lines for one."""
    record: dict[str, list[tuple[int, str]]] = {}
    for line in RECORD.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version, digest = line.rsplit(" ", 2)
            record.setdefault(name, []).append((int(version), digest))
    return record


def _digest(module: str, names: list[str], more: str = "") -> str:
    """Of top-level names of a module and of all that they use."""
    seen: dict[Found, str] = {}
    todo: list[Found] = [(module, name) for name in names]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        node = _tree(at[0])[0].get(at[1])
        if node is None:
            continue
        seen[at] = _text(node)
        for name, attribute in _used(node):
            target = _target(at[0], name, attribute)
            shared = target is not None and target[0] in SHARED and module not in SHARED
            if target is not None and target[0] not in SILENT and not shared:
                todo.append(target)
    text = more + "\n".join(f"{at}: {seen[at]}" for at in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names(module: str) -> list[str]:
    return list(_tree(module)[0])


@functools.cache
def _tree(module: str) -> tuple[dict[str, ast.stmt], dict[str, Found]]:
    """A module's own top-level names, and where those are from that it imports of the package."""
    file = PACKAGE.parent / Path(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    own: dict[str, ast.stmt] = {}
    imported: dict[str, Found] = {}
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wcordbench"):
            for alias in node.names:
                imported[alias.asname or alias.name] = (str(node.module), alias.name)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for part in (p for t in targets for p in ast.walk(t)):
                if isinstance(part, ast.Name) and part.id != "__all__":
                    own[part.id] = node
    return own, imported


def _used(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """The names that a node uses, with the attribute that is asked of each."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            yield part.value.id, part.attr
        elif isinstance(part, ast.Name):
            yield part.id, None


def _target(module: str, name: str, attribute: str | None) -> Found | None:
    own, imported = _tree(module)
    if name in own:
        return module, name
    if name not in imported:
        return None
    base, inner = imported[name]
    place = PACKAGE.parent / Path(*base.split("."), inner)
    if place.with_suffix(".py").is_file() or place.is_dir():  # a module, of which an attribute
        return (f"{base}.{inner}", attribute) if attribute else None
    return base, inner


def _text(node: ast.AST) -> str:
    """The same in every version of Python, whose trees differ in empty fields alone."""
    if isinstance(node, ast.Raise):
        return "raise"
    fields = []
    for key, value in ast.iter_fields(node):
        if key in ("annotation", "returns", "decorator_list", "kind", "type_comment", "ctx"):
            continue
        if key == "body" and isinstance(value, list):
            value = [v for v in value if not _is_docstring(v)]
        if value in (None, []):
            continue
        items = value if isinstance(value, list) else [value]
        said = [_text(v) if isinstance(v, ast.AST) else repr(v) for v in items]
        fields.append(f"{key}=[{','.join(said)}]")
    decorators = getattr(node, "decorator_list", [])
    kept = [_text(d) for d in decorators if not _registers(d)]
    return f"{type(node).__name__}({','.join(fields + kept)})"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _registers(node: ast.AST) -> bool:
    name = getattr(getattr(node, "func", None), "id", "")
    return isinstance(node, ast.Call) and name.startswith("register_")


def main() -> None:
    """Write the record."""
    lines = [f"{name} {version} {digest}" for name, (version, digest) in digests().items()]
    head = "# name, version, digest of the text; written by: python tests/definitions.py\n"
    RECORD.write_text(head + "\n".join(sorted(lines)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
