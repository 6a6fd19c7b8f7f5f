"""The top of the mount: the same levels three times, as views, and links by UID.

DICOM files hang from the root, pictures from ``thumbnails/``, archives from ``zip/``. Series folders of the DICOM view
hold DICOM files only, and its study folders series only, because programs read whatever they find there::

    Root ─┬─ README.txt, .nomedia
          ├─ inbox, studies ──────────── SourceFolder ── StudyFolder ── SeriesFolder ── instances
          ├─ albums ──── AlbumsFolder ── SourceFolder ── …
          ├─ thumbnails, zip ── ViewFolder ── inbox, albums, studies as above
          └─ by-uid ──── links into studies

The inbox is there for user tokens; an album token sees one album, and ``studies`` shows the same studies.
"""

from collections.abc import Sequence
from operator import attrgetter

from kheopsfs.kheops.records import EVERYTHING, INBOX, Record, StudiesQuery, Study
from kheopsfs.tree.identity import ROOT_INO
from kheopsfs.tree.levels import AlbumsFolder, Shape, SourceFolder, TokenKind, View
from kheopsfs.tree.names import NameStyle, study_names, uid_names
from kheopsfs.tree.nodes import File, Folder, Link, Node
from kheopsfs.tree.readme import NOMEDIA, README
from kheopsfs.tree.rows import study_row
from kheopsfs.tree.siblings import distinct, ordered, place, static
from kheopsfs.tree.times import UNDATED, study_mtime

_STUDIES = "studies"  # the folder that by-uid links into


def root(kind: TokenKind, style: NameStyle = NameStyle.READABLE) -> Folder:
    """The root of a mount with a token of that kind: album tokens have no inbox and one album."""
    view = View(Shape.DICOM, kind, style)
    return Root(name="", ino=ROOT_INO, parent_ino=ROOT_INO, mtime=UNDATED, view=view)


class ViewFolder(Folder, frozen=True, gc=False, kw_only=True):
    """The sources of one view: inbox, albums, studies."""

    view: View

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """The sources that a token of this kind has, whatever the rows."""
        return ordered(self._sources())

    def _sources(self) -> list[Node]:
        sources: list[Node] = [
            AlbumsFolder(**static(self, "albums"), view=self.view),
            SourceFolder(**static(self, _STUDIES), view=self.view, source=EVERYTHING, album=None),
        ]
        if self.view.kind == "user":
            sources.append(SourceFolder(**static(self, "inbox"), view=self.view, source=INBOX, album=None))
        return sources


class Root(ViewFolder, frozen=True, gc=False, kw_only=True):
    """The root: the DICOM view, and the doors to the others."""

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """The top of the tree, whatever the rows."""
        others = (
            ViewFolder(**static(self, shape.value), view=View(shape, self.view.kind, self.view.style))
            for shape in (Shape.THUMBNAILS, Shape.ZIP)
        )
        readme = File(**static(self, "README.txt"), content=README)
        nomedia = File(**static(self, ".nomedia"), content=NOMEDIA)
        by_uid = UIDFolder(**static(self, "by-uid"), style=self.view.style)
        return ordered([*self._sources(), *others, readme, nomedia, by_uid])


class UIDFolder(Folder, frozen=True, gc=False, kw_only=True):
    """Every study by its StudyInstanceUID."""

    style: NameStyle

    @property
    def query(self) -> StudiesQuery:
        """All that the token sees."""
        return StudiesQuery(EVERYTHING)

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """A link to each study's folder in ``studies/``."""
        studies = distinct(rows, Study, attrgetter("StudyInstanceUID"))
        UIDs = [study.StudyInstanceUID for study in studies]
        return ordered(
            Link(
                **place(self, link_name, f"study/{UID}", study_mtime(study_row(study), self.mtime)),
                target=f"../{_STUDIES}/{study_name}",
            )
            for study, UID, link_name, study_name in zip(
                studies, UIDs, uid_names(UIDs), study_names(studies, self.style), strict=True
            )
        )
