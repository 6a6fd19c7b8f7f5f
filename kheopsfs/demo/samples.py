"""The sample hospital: a few patients with studies of every kind that a mount has to cope with.

A generated chest with several series that belong together, the odd images, reports and plans that pydicom ships for
its own tests, each moved into a study of ours so that no two of them collide, and values that real archives hold
although no standard allows them. All of it is held in memory, nothing is downloaded, and it is the same at every start.
"""

from collections.abc import Iterator

import pydicom
from pydicom.data import get_testdata_file

from kheopsfs.demo import generated, phantom
from kheopsfs.demo.accounts import CAPABILITY_LIFE, Accounts, Token
from kheopsfs.demo.bodies import Body
from kheopsfs.demo.cards import Patient, SeriesCard, StudyCard, member
from kheopsfs.demo.library import Library

CHEST = StudyCard(Patient("Doe^Jane", "DEMO-001", "19560412", "F"), "PET-CT Thorax", "20240305", accession="A1001")
HEAD = StudyCard(
    Patient("Yamada^Tarou=山田^太郎=やまだ^たろう", "DEMO-002", "19700101", "M"),
    "MR Schädel",
    "20231117",
    accession="A1002",
    charset=["", "ISO 2022 IR 87", "ISO 2022 IR 100"],
)
COLOUR = StudyCard(
    Patient("Müller^Zoë", "DEMO-003", "19880229", "F"), "Échographie / couleurs", "20220614", time="0930"
)
PLAN = StudyCard(Patient("قباني^لنزار", "DEMO-004", "19490707", "M"), "RT planning", "20210930", accession="A/1004")
ANONYMOUS = StudyCard(Patient("NULL", "ANON-42"), "CT compressed", "NULL", time="NULL", study_id="")
HEART = StudyCard(Patient("Nightingale^Florence^^Dr^OM", "DEMO-006", "18200512", "F"), "Rest ECG 12-lead", "20240520")
SLASHES = StudyCard(Patient("Smith/Jones^A.B.", "../DEMO:007"), "Head/Neck w/o contrast: *new*?", "20240306")
FOLLOW_UP = StudyCard(CHEST.patient, "Chest AP", "20240701", accession="A1008")
ODD = StudyCard(
    Patient("=山田^花子", ""),
    "",
    "2004.01.19",
    time="",
    study_id="",
    referring="^^^^",
    uid="1.2.826.0.1.3680043.8.498.007.1234567890123456789012345678901234",
)
UNDATED = StudyCard(Patient("Doe^^^", "DEMO-010"), "no date at all", None)

SOFT = SeriesCard(CHEST, "CT", 2, "Thorax 5.0 B31f")
SHARP = SeriesCard(CHEST, "CT", 3, "Thorax 10.0 B70f lung")
PET = SeriesCard(CHEST, "PT", 4, "PET WB corrected")
LUNGS = SeriesCard(CHEST, "SEG", 5, "Lungs")
REPORT = SeriesCard(CHEST, "DOC", 6, "Report")
FINDINGS = SeriesCard(CHEST, "SR", 7, "Findings")
ULTRASOUND = SeriesCard(COLOUR, "US", 1, "colours")

_FINE = phantom.Grid(size=256, slices=64, spacing=1.5, thickness=5.0)
_COARSE = phantom.Grid(size=256, slices=32, spacing=1.5, thickness=10.0)
_PET = phantom.Grid(size=128, slices=40, spacing=3.0, thickness=8.0)

_SHIPPED: tuple[tuple[SeriesCard, tuple[str, ...]], ...] = (
    (FINDINGS, ("reportsi.dcm",)),
    (
        SeriesCard(HEAD, "MR", 1, "every transfer syntax"),
        (
            "MR_small.dcm",
            "MR_small_RLE.dcm",
            "MR_small_implicit.dcm",
            "MR_small_bigendian.dcm",
            "MR_small_jp2klossless.dcm",
            "MR_small_jpeg_ls_lossless.dcm",
        ),
    ),
    (ULTRASOUND, ("examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm")),
    (SeriesCard(COLOUR, "US", 2, "cine"), ("examples_ybr_color.dcm",)),
    (
        SeriesCard(COLOUR, "OT", 3, "secondary captures"),
        (
            "SC_rgb_dcmtk_+eb+cr.dcm",
            "SC_rgb_dcmtk_+eb+cy+np.dcm",
            "SC_rgb_jpeg_gdcm.dcm",
            "SC_rgb_jls_lossy_line.dcm",
            "SC_rgb_rle_2frame.dcm",
            "SC_rgb_rle_16bit.dcm",
            "SC_rgb_small_odd.dcm",
            "SC_ybr_full_422_uncompressed.dcm",
        ),
    ),
    (SeriesCard(PLAN, "RTPLAN", 1, "plan"), ("rtplan.dcm",)),
    (SeriesCard(PLAN, "RTDOSE", 2, "dose"), ("rtdose.dcm",)),
    (SeriesCard(PLAN, "RTSTRUCT", 3, "structures"), ("rtstruct.dcm",)),
    (
        SeriesCard(ANONYMOUS, "CT", 1, "as found"),
        ("CT_small.dcm", "JPEG2000.dcm", "JPGExtended.dcm", "693_J2KI.dcm", "image_dfl.dcm"),
    ),
    (SeriesCard(HEART, "ECG", 1, "rest"), ("waveform_ecg.dcm",)),
    (SeriesCard(HEART, "SR", 2, "measurements"), ("test-SR.dcm",)),
    (SeriesCard(SLASHES, "MR", 1, "ax T1/T2 <fat> sat."), ("examples_overlay.dcm",)),
    (SeriesCard(UNDATED, "", 1, "CON"), ("CT_small.dcm",)),
)

_ODD: tuple[tuple[SeriesCard, str, int | None], ...] = (
    (SeriesCard(ODD, "CT", -1, "negative number"), "CT_small.dcm", -5),
    (SeriesCard(ODD, "CT", None, "no number"), "CT_small.dcm", None),
    (SeriesCard(ODD, "MR", 1, "twin"), "MR_small.dcm", 1),
    (SeriesCard(ODD, "MR", 1, "twin ", {"SeriesDescription": "twin"}), "MR_small.dcm", 1),
    (SeriesCard(ODD, "", 2, "", {"StudyDescription": ""}), "SC_rgb_small_odd.dcm", 1),
)


def library() -> Library:
    """All sample studies."""
    found = Library()
    for body in _bodies():
        found.add(body)
    return found


def _bodies() -> Iterator[Body]:
    fine = phantom.hounsfield(_FINE)
    yield from generated.ct(SOFT, _FINE, fine, (40, 400))
    yield from generated.ct(SHARP, _COARSE, phantom.hounsfield(_COARSE, noise=40.0), (-600, 1500))
    yield from generated.pt(PET, _PET, phantom.uptake(_PET))
    yield generated.segmentation(LUNGS, _FINE, phantom.lung_mask(_FINE))
    yield generated.report(REPORT, "Thorax: no finding. This patient does not exist.")
    yield generated.radiograph(SeriesCard(FOLLOW_UP, "CR", 1, "AP"), _FINE, fine)
    yield generated.enhanced(SeriesCard(HEAD, "MR", 2, "enhanced"), _FINE, fine[24:40])
    for series, names in _SHIPPED:
        for number, name in enumerate(names, 1):
            yield _shipped(name, series, number)
    for odd, name, instance_number in _ODD:
        yield _shipped(name, odd, instance_number)


def _shipped(name: str, series: SeriesCard, number: int | None) -> Body:
    """A file of pydicom's own tests as a member of one of our series."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"pydicom does not ship {name}"
    return member(pydicom.dcmread(path, force=True), series, number)


def accounts() -> Accounts:
    """Who sees which of the sample studies, and the tokens for it."""
    found = Accounts()
    ada = found.add_user("demo-ada", "Ada Lovelace", "ada@example.org")
    grace = found.add_user("demo-grace", "Grace Hopper", "grace@example.org")
    for study in (CHEST, HEAD, PLAN, ANONYMOUS, HEART, FOLLOW_UP, ODD, UNDATED):
        ada.inbox.put(study.StudyInstanceUID)
    grace.inbox.put(HEART.StudyInstanceUID)

    trial = found.add_album(
        "Chest/Heart trial 🫀", ada, "2024-03-06T08:00:00.123456", description="CT only: thin & thick"
    )
    for series in (SOFT, SHARP, LUNGS):
        trial.holdings.put(CHEST.StudyInstanceUID, series.SeriesInstanceUID)
    trial.holdings.put(HEAD.StudyInstanceUID)
    trial.members[grace.sub] = False
    trial.flags |= {"download_series": True, "write_comments": True}
    pet = found.add_album("PET follow-up", ada, "2024-03-07T09:30:00")
    for series in (PET, FINDINGS):
        pet.holdings.put(CHEST.StudyInstanceUID, series.SeriesInstanceUID)
    pet.holdings.put(FOLLOW_UP.StudyInstanceUID)
    pet.favorite_of.add(ada.sub)
    teaching = found.add_album("Teaching", ada, "2023-01-01T00:00:00")
    teaching.holdings.put(COLOUR.StudyInstanceUID)
    other = found.add_album("Teaching", ada, "2023-06-01T00:00:00", description="")
    other.holdings.put(COLOUR.StudyInstanceUID, ULTRASOUND.SeriesInstanceUID)
    other.holdings.put(SLASHES.StudyInstanceUID)
    found.add_album("Empty", ada, "2024-01-01T00:00:00")
    found.add_album("long " * 51, grace, "2022-01-01T00:00:00").holdings.put(HEART.StudyInstanceUID)

    found.add_token(Token("user token of Ada: inbox and five albums", ada))
    found.add_token(Token("user token of Grace: inbox and two albums", grace))
    found.add_token(Token("album token of Chest/Heart trial: read", ada, trial))
    everything = ("read", "write", "downloadbutton", "send")
    found.add_token(Token("album token of PET follow-up: read, write, download, send", ada, pet, everything))
    found.add_token(Token("album token of Teaching: write only, no read", ada, teaching, ("write",)))
    found.add_token(Token("album token of the empty album: read", ada, found.albums_named("Empty")[0]))
    expired = found.add_token(Token("expired user token", ada))
    expired.issued -= 2 * CAPABILITY_LIFE
    expired.expires -= 2 * CAPABILITY_LIFE
    found.add_token(Token("revoked user token", ada, revoked=True))
    return found
