"""Which objects the server can show as a picture.

Asking for a JPEG of a report or a plan costs the server a retrieval and ends in 406 (contract: retrieval), so what
cannot be rendered has no thumbnail in the tree. A series says only its Modality; an instance its SOP class and whether
it has rows of pixels. Both rules err on the side of showing: an unknown modality may well be an image, and a thumbnail
that fails is an error for itself alone.
"""

from kheopsfs.tree.rows import InstanceRow, SeriesRow

# Defined terms of Modality (PS3.3 C.7.3.1.1.1) whose objects hold no picture. SEG holds masks, often of one
# bit, which no server draws in a way that tells anything.
_WITHOUT_PICTURE = frozenset(
    (
        *("SR", "PR", "KO", "DOC", "PLAN", "ANN", "ASMT"),  # documents
        *("SEG", "REG", "FID", "RWV", "SMR", "TEXTUREMAP", "M3D"),  # masks, registrations, models
        *("STAIN", "POS", "CTPROTOCOL", "MRPROTOCOL", "XAPROTOCOL"),  # how something was made
        *("RTSTRUCT", "RTPLAN", "RTRECORD", "RTINTENT", "RTRAD", "RTSEGANN"),  # but RTIMAGE and RTDOSE are pixels
        *("ECG", "EPS", "EEG", "EMG", "EOG", "HD", "RESP", "AU"),  # waveforms
        *("AR", "KER", "LEN", "SRF", "VA", "OAM", "IOL", "OPV"),  # measurements of the eye
    )
)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASSES_WITHOUT_PICTURE = tuple(  # PS3.4 B.5
    _STORAGE + group
    for group in (
        "4.2",  # MR spectroscopy
        "9.",  # waveforms
        "11.",  # presentation states
        "66",  # raw data, registration, fiducials, segmentation, surfaces
        "67",  # real world value mapping
        "68.",  # surface scans
        "77.1.1.1",  # video endoscopy
        "77.1.2.1",  # video microscopy
        "77.1.4.1",  # video photography
        "78.",  # lensometry, refraction, keratometry, visual acuity, axial measurements
        "79.",  # macular grid
        "80.",  # visual field
        "88.",  # structured reports, key object selection
        "91.",  # microscopy annotations
        "104.",  # encapsulated documents
    )
)
_RT_IMAGES = (_STORAGE + "481.1", _STORAGE + "481.2")  # RT image, RT dose; the rest of 481 are structures and plans
_RT = _STORAGE + "481."


def series_has_picture(row: SeriesRow) -> bool:
    """Whether a series may hold something to render, by its Modality."""
    return row.Modality not in _WITHOUT_PICTURE


def instance_has_picture(row: InstanceRow) -> bool:
    """Whether an instance can be rendered: it has rows of pixels and its SOP class is not known to be another thing."""
    if not row.Rows or row.SOPClassUID.startswith(_SOP_CLASSES_WITHOUT_PICTURE):
        return False
    return not row.SOPClassUID.startswith(_RT) or row.SOPClassUID in _RT_IMAGES
