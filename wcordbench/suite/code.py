"""The code that a run is made of, as far as it is part of the run's identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from wcordbench import registry
from wcordbench.definitions import shown
from wcordbench.errors import UserError


def code_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says of the definitions that it names; empty for most.

    Args:
        config: a run's, whose names are read.

    Returns:
        ``plugins``: the digest of each plugin's files, which can be anything, by what it defines.
        ``versions``: those of definitions that are not at their first one. Each is left out
        where it is empty, so that stored identities stay.

    Raises:
        UserError: a name of the configuration is not known.
    """
    networks = [config["model"]] + ([config["teacher"]["model"]] if config["teacher"] else [])
    named: list[tuple[registry.Kind, str]] = [
        ("dataset", config["dataset"]["name"]),
        *(("model", name) for name in networks if not name.startswith("timm:")),
        *(("method", term["name"]) for term in config["method"]["terms"]),
    ]
    entries = {f"{kind} {name}": registry.get(kind, name) for kind, name in named}
    code: dict[str, Any] = {
        "plugins": {name: e.digest for name, e in entries.items() if e.is_plugin},
        "versions": {name: e.version for name, e in entries.items() if e.version != 1},
    }
    return {key: value for key, value in code.items() if value}


def changed(config: dict[str, Any]) -> str | None:
    """Why the code here is not what a run's identity was computed from, or None.

    Raises:
        UserError: a name of the configuration is not known.
    """
    code = code_of(config)
    if config.get("plugins", {}) != code.get("plugins", {}):
        return (
            "a plugin that it is made of, or a file that the plugin imports, is not the file that"
            " its identity was computed from; run again if the new file is meant"
        )
    was, now = config.get("versions", {}), code.get("versions", {})
    for name in {**was, **now}:
        if was.get(name, 1) != now.get(name, 1):
            return (
                f"it is of version {was.get(name, 1)} of the {name}, and the code here has version"
                f" {now.get(name, 1)}; check out the commit that its result.json records"
            )
    return None


def require(
    run: str,
    config: dict[str, Any],
    needed: Callable[[str], bool] = lambda what: True,  # noqa: ARG005
) -> None:
    """See that the plugins that a stored run is made of are known, and are what they were.

    Args:
        run: its name.
        config: its configuration.
        needed: whether a definition is, given as ``method crd``.

    Raises:
        UserError: one is not known here, or is another file than the run was made of.
    """
    for what, digest in config.get("plugins", {}).items():
        if not needed(what):
            continue
        kind, _, name = what.partition(" ")
        entry = registry.catalogue(cast(registry.Kind, kind)).get(name)
        if entry is None:
            raise UserError(
                f"{run} is made of the {what}, which a plugin registers; give its file with"
                " --plugin (from Python: plugins=[file])"
            )
        if entry.digest != digest:
            raise UserError(
                f"{run} is made of the {what}, and {shown(entry.file)}, or a file that it"
                " imports, is not the file that its identity was computed from; give that one"
            )


__all__ = ["changed", "code_of", "require"]
