"""What operating systems and editors leave in folders: nobody's results, and no reason to worry."""

from __future__ import annotations

_NAMES = {
    ".ds_store", ".localized", "icon\r", ".spotlight-v100", ".trashes", ".fseventsd",
    ".temporaryitems", ".documentrevisions-v100", "__macosx", "thumbs.db", "ehthumbs.db",
    "desktop.ini", "$recycle.bin", "system volume information", ".directory", "lost+found",
    ".snapshot", ".snapshots", "@eadir", ".ipynb_checkpoints", ".stfolder", ".dropbox",
    ".gitkeep", ".gitignore", ".gitattributes",
}  # fmt: skip
_BEGINNINGS = ("._", ".nfs", ".fuse_hidden", ".trash-", ".~lock.", ".syncthing.", ".goutputstream-")


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's own."""
    name = name.casefold()
    return name in _NAMES or name.startswith(_BEGINNINGS)


__all__ = ["is_stray"]
