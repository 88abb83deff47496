"""Stored runs by the beginning or the end of their names."""

from __future__ import annotations

from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store


def find(store: Store, name: str) -> RunFolder:
    """The folder of a run by its name or by the beginning or end of it.

    Raises:
        UserError: none or several.
    """
    names = [folder.path.name for folder in store.folders()]
    if name not in names:
        near = [n for n in names if n.startswith(name) or n.endswith(name)] if name else []
        if len(near) != 1:
            which = f"{len(near)} runs are called like that" if near else "there is no such run"
            raise UserError(
                f"{name!r}: {which} in {store.root / 'runs'}; give the name of one folder there,"
                " as wcordbench best lists them"
            )
        name = near[0]
    return RunFolder(store.root / "runs" / name)


__all__ = ["find"]
