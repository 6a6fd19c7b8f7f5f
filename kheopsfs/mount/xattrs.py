"""Extended attributes: what the lists said of a node, and what is known of a file.

`user.dicom.<Keyword>` are the DICOM attributes of the list row (PS3.6 keywords, or eight hex digits). `user.kheops.url`
is the DICOMweb address, never with a token. On files, `user.kheops.size` says `exact` or `bound`, and
`user.kheops.cached` says `yes` or `no`.
"""

from kheopsfs.fetch import Library
from kheopsfs.mount.xattr_names import CACHED, DICOM, SIZE, URL
from kheopsfs.tree.nodes import File, Node, attributes_of, url_path


def names(node: Node) -> list[str]:
    """The names of a node's extended attributes."""
    listed = [f"{DICOM}{keyword}" for keyword, value in attributes_of(node).items() if value]
    if url_path(node) is not None:
        listed.append(URL)
    if isinstance(node, File):
        listed += [SIZE, CACHED]
    return listed


async def value(node: Node, name: str, library: Library) -> str | None:
    """One extended attribute; None when the node has none of that name."""
    if name.startswith(DICOM):
        return attributes_of(node).get(name.removeprefix(DICOM)) or None
    if name == URL:
        path = url_path(node)
        return None if path is None else library.url(path)
    return await _state(node, name, library) if isinstance(node, File) else None


async def _state(file: File, name: str, library: Library) -> str | None:
    if isinstance(file.content, bytes):
        return {SIZE: "exact", CACHED: "yes"}.get(name)
    if name == SIZE:
        await library.load_sizes([file.content])
        return "exact" if library.size(file.content).exact else "bound"
    if name == CACHED:
        return "yes" if await library.is_cached(file.content) else "no"
    return None
