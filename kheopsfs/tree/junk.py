"""Names that programs try in every folder they enter, and that no node below the root can have.

File managers, indexers and version control ask each folder for ``.Trash-1000``, ``desktop.ini`` and their like. Such a
look-up needs no list from the server: the answer is no. The rule rests on how names are made (`kheopsfs.tree.text`):
none begins with ``.``, ``~`` or ``$``, and all that are not fixed words end with a digest, a UID, an album id or one
of our extensions.
"""

_NEVER_FIRST = (".", "~", "$")  # .DS_Store, ._x, .git, .hidden, .Trash; ~$x.docx; $RECYCLE.BIN
_PROBED = frozenset(
    (
        "autorun.inf",  # file managers, on anything that looks like a medium
        "desktop.ini",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "system volume information",
        "icon\r",  # macOS: the icon of a folder
        "lost+found",
        "__macosx",
    )
)


def is_junk_name(name: str | bytes) -> bool:
    """Whether no node below the root can have the name, so that a look-up may be answered without a list."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return text.startswith(_NEVER_FIRST) or text.lower() in _PROBED
