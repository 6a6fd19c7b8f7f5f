"""A small server's lists, and a walk through the tree that they make."""

from tree_samples import one_album, one_instance, one_series, one_study

from kheopsfs.kheops.records import (
    EVERYTHING,
    INBOX,
    AlbumsQuery,
    InstancesQuery,
    Query,
    Record,
    SeriesQuery,
    Source,
    StudiesQuery,
)
from kheopsfs.tree.directory import Directory
from kheopsfs.tree.nodes import Folder, Node

ALBUM = Source("album", "dTxCc6OJyG")

MAGIX = one_study(
    "1.2.10",
    StudyDate="20061019",
    StudyTime="101112.5",
    TimezoneOffsetFromUTC="+0200",
    PatientName="MAGIX",
    PatientID="M1",
    StudyDescription="Cardiac-CT",
    RetrieveURL="https://kheops.test/api/link/secret/studies/1.2.10",
)
HEAD = one_study("1.2.20", StudyDate="20100203", PatientName="Doe^Jane", PatientID="D1", StudyDescription="Head")

CIRC = one_series(
    "1.2.10",
    "1.2.10.1",
    SeriesNumber="10",
    Modality="CT",
    SeriesDescription="Circ 3.0",
    NumberOfSeriesRelatedInstances="2",
    PerformedProcedureStepStartDate="20061019",
    PerformedProcedureStepStartTime="110000",
)
REPORT = one_series("1.2.10", "1.2.10.2", SeriesNumber="99", Modality="SR", NumberOfSeriesRelatedInstances="1")
BRAIN = one_series("1.2.20", "1.2.20.1", SeriesNumber="1", Modality="MR")

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
FIRST = one_instance("1.2.10", "1.2.10.1", "1.2.10.1.1", InstanceNumber="1", Rows="512", SOPClassUID=CT_IMAGE)
SECOND = one_instance("1.2.10", "1.2.10.1", "1.2.10.1.2", InstanceNumber="2", Rows="512", SOPClassUID=CT_IMAGE)
TEXT = one_instance("1.2.10", "1.2.10.2", "1.2.10.2.1", InstanceNumber="1", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
SLICE = one_instance("1.2.20", "1.2.20.1", "1.2.20.1.1", InstanceNumber="1", Rows="256", ContentDate="20100204")

_INSTANCES = {
    InstancesQuery("1.2.10", "1.2.10.1"): [SECOND, FIRST],
    InstancesQuery("1.2.10", "1.2.10.2"): [TEXT],
    InstancesQuery("1.2.20", "1.2.20.1"): [SLICE],
}

# The album holds one series of the study MAGIX; the inbox holds another study.
USER_LISTS: dict[Query, list[Record]] = {
    AlbumsQuery(): [one_album(ALBUM.album_id, name="Cardio Trial", last_event_time="2020-01-02T03:04:05")],
    StudiesQuery(EVERYTHING): [HEAD, MAGIX],
    StudiesQuery(INBOX): [HEAD],
    StudiesQuery(ALBUM): [MAGIX],
    SeriesQuery(EVERYTHING, "1.2.10"): [REPORT, CIRC],
    SeriesQuery(EVERYTHING, "1.2.20"): [BRAIN],
    SeriesQuery(INBOX, "1.2.20"): [BRAIN],
    SeriesQuery(ALBUM, "1.2.10"): [CIRC],
    **_INSTANCES,
}
ALBUM_LISTS: dict[Query, list[Record]] = {
    AlbumsQuery(): USER_LISTS[AlbumsQuery()],
    StudiesQuery(EVERYTHING): [MAGIX],
    StudiesQuery(ALBUM): [MAGIX],
    SeriesQuery(EVERYTHING, "1.2.10"): [CIRC],
    SeriesQuery(ALBUM, "1.2.10"): [CIRC],
    **_INSTANCES,
}


def directory(folder: Folder, lists: dict[Query, list[Record]]) -> Directory:
    """What the folder shows of a server with these lists."""
    rows: list[Record] = lists[folder.query] if folder.query is not None else []
    return Directory(folder.children(rows))


def walk(folder: Folder, lists: dict[Query, list[Record]], path: str = "") -> dict[str, Node]:
    """Every path below a folder with its node."""
    found: dict[str, Node] = {}
    for node in directory(folder, lists):
        found[path + node.name] = node
        if isinstance(node, Folder):
            found |= walk(node, lists, f"{path}{node.name}/")
    return found
