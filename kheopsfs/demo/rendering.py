"""Pictures of instances, as dcm4chee makes them.

Grey images go through their modality transformation and their first window, or the full range of values where there is
none. A picture asked for in rows and columns is the largest that fits and keeps its shape (PS3.18 9.4.5).
"""

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SegmentationStorage

from kheopsfs.demo.elements import read
from kheopsfs.demo.library import Instance

Format = Literal["JPEG", "PNG"]

_GREY = ("MONOCHROME1", "MONOCHROME2")


def is_image(instance: Instance) -> bool:
    """Whether it can be shown: it has pixels and they are no segmentation."""
    return instance.frames > 0 and instance.text("00080016") != SegmentationStorage


def picture(
    instance: Instance,
    frame: int,
    size: tuple[int | None, int | None] = (None, None),
    window: tuple[float, float] | None = None,
) -> Image.Image:
    """One frame, numbered from 1.

    Args:
        instance: an image.
        frame: 1 to its number of frames.
        size: columns and rows that the picture must fit in.
        window: centre and width instead of the instance's own.

    Raises:
        Exception: whatever a missing codec or broken pixel data raises.
    """
    dataset = read(instance.body)
    with instance.body.open() as file:
        pixels = pixel_array(file, index=frame - 1)
    shown = Image.fromarray(_to_bytes(pixels, dataset, window))
    columns, rows = size
    ratio = min((columns or 10**6) / shown.width, (rows or 10**6) / shown.height) if columns or rows else 1.0
    fitting = max(round(shown.width * ratio), 1), max(round(shown.height * ratio), 1)
    return shown if fitting == shown.size else shown.resize(fitting, Image.Resampling.BILINEAR)


def icon(instance: Instance, columns: int, rows: int) -> Image.Image:
    """What stands for an instance that is no image."""
    sheet = Image.new("RGB", (columns, rows), "white")
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((columns // 8, rows // 16, columns * 7 // 8, rows * 15 // 16), outline="grey", width=2)
    draw.text((columns // 2, rows // 2), instance.text("00080016").rpartition(".")[2], fill="black", anchor="mm")
    return sheet


def encode(image: Image.Image, kind: Format, quality: int = 90) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def _to_bytes(pixels: NDArray[Any], dataset: Dataset, window: tuple[float, float] | None) -> NDArray[np.uint8]:
    interpretation = dataset.PhotometricInterpretation
    if interpretation == "PALETTE COLOR":
        return _eight_bits(apply_color_lut(pixels, dataset), 16)
    if interpretation not in _GREY:
        return _eight_bits(pixels, dataset.BitsStored)
    if window:
        dataset.WindowCenter, dataset.WindowWidth = window
    values = apply_modality_lut(pixels, dataset).astype(np.float64)
    if "VOILUTSequence" in dataset and not window:
        shown = apply_voi_lut(pixels, dataset, index=0).astype(np.float64)
        low, high = float(shown.min()), float(shown.max())
    else:
        shown = values
        low, high = _range(values, dataset)
    scaled = np.clip((shown - low) * (255.0 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    return np.invert(scaled) if interpretation == "MONOCHROME1" else scaled


def _range(values: NDArray[np.float64], dataset: Dataset) -> tuple[float, float]:
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None or width < 1:
        return float(values.min()), float(values.max())
    return centre - width / 2, centre + width / 2


def _first(value: Any) -> float | None:
    first = next(iter(value), None) if isinstance(value, MultiValue) else value
    return None if first is None else float(first)


def _eight_bits(pixels: NDArray[Any], stored: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels >> max(stored - 8, 0), dtype=np.uint8)
