"""A made-up chest, the same every time: somebody opening a sample study should recognise what it shows.

The body is described in millimetres in the patient's frame of reference (PS3.3 C.7.6.2.1.1: x to the left, y to the
back, z to the head) and sampled on any grid, so that several reconstructions of it lie on top of each other. What looks
the same at every height (skin, fat, spine, aorta, table) is drawn once, the rest slice by slice.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.int16]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

_NOISE_SEED = 1895  # the year of the first X-ray picture

AIR, FAT, TISSUE, LUNG, HEART, BONE, TABLE = -1000, -90, 40, -830, 60, 420, 120
"""Hounsfield units."""


@dataclass(frozen=True)
class Grid:
    """Where a volume is sampled: square pixels of `spacing` mm, slices `thickness` mm apart, centred on the body."""

    size: int
    slices: int
    spacing: float
    thickness: float

    def position(self, index: int) -> tuple[float, float, float]:
        """ImagePositionPatient of a slice, in mm."""
        corner = -self.spacing * (self.size - 1) / 2
        return corner, corner, self.thickness * (index - (self.slices - 1) / 2)

    @cached_property
    def axes(self) -> tuple[Plane, Plane]:
        """x along a row and y along a column, in mm."""
        steps = (self.position(0)[0] + np.arange(self.size) * self.spacing).astype(np.float32)
        return steps[np.newaxis, :], steps[:, np.newaxis]


def hounsfield(grid: Grid, noise: float = 12.0) -> Volume:
    """The chest as CT numbers, slices first, from feet to head."""
    grain = np.random.default_rng(_NOISE_SEED).normal(0.0, noise, (grid.size, grid.size)).astype(np.float32)
    unchanging = _unchanging(*grid.axes)
    volume = np.empty((grid.slices, grid.size, grid.size), np.int16)
    for index in range(grid.slices):
        shown = _slice(grid, index, unchanging)
        shown += np.roll(grain, 31 * index)  # the same grain looks like another where it is shifted
        volume[index] = np.clip(shown, -1024, 3071)
    return volume


def uptake(grid: Grid) -> Volume:
    """The same chest as a PET sees it: a bright heart, a small lesion in the left lung, a faint body."""
    x, y = grid.axes
    volume = np.empty((grid.slices, grid.size, grid.size), np.int16)
    for index in range(grid.slices):
        z = grid.position(index)[2]
        shown = np.where(_body(x, y), np.float32(900), np.float32(0))
        shown[_lungs(x, y, z)] = 350
        shown[_heart(x, y, z)] = 5200
        shown += 14000 * np.exp(-((x - 85) ** 2 + (y + 25) ** 2 + (z - 40) ** 2) / (2 * 9**2))
        volume[index] = shown
    return volume


def lung_mask(grid: Grid) -> NDArray[np.uint8]:
    """1 inside the lungs, slices first."""
    heights = (grid.position(index)[2] for index in range(grid.slices))
    return np.stack([_lungs(*grid.axes, z).astype(np.uint8) for z in heights])


def _unchanging(x: Plane, y: Plane) -> list[tuple[Mask, int]]:
    """What is the same at every height: first what lies below the lungs in the drawing, the table up to the tissue."""
    return [
        ((np.abs(y - 138) < 6) & (np.abs(x) < 200), TABLE),
        (_body(x, y), FAT),
        (_body(x * 1.07, y * 1.09), TISSUE),
        (_ellipse(x, y, (-3, 68), (17, 15)), BONE),
        (_ellipse(x, y, (-3, 88), (7, 7)), TISSUE),  # the spinal canal
        (_ellipse(x, y, (-3, 108), (5, 14)), BONE),
        (_ellipse(x, y, (12, 45), (11, 11)), HEART),  # the aorta
    ]


_BELOW_LUNGS = 3
"""How many of the unchanging parts the lungs are drawn over."""


def _slice(grid: Grid, index: int, unchanging: list[tuple[Mask, int]]) -> Plane:
    x, y = grid.axes
    z = grid.position(index)[2]
    lungs = _lungs(x, y, z)
    shown = np.full((grid.size, grid.size), AIR, np.float32)
    for mask, value in unchanging[:_BELOW_LUNGS]:
        shown[mask] = value
    shown[_ribs(x, y, z)] = BONE
    shown[lungs] = LUNG
    for branch in range(6):  # vessels, thinning out to the sides
        centre = (-1 if branch % 2 else 1) * (55 + 12 * branch), -10 + 14 * np.sin(branch + z / 30)
        shown[_ellipse(x, y, centre, (6 - branch / 1.5, 6 - branch / 1.5)) & lungs] = TISSUE
    shown[_heart(x, y, z)] = HEART
    for mask, value in unchanging[_BELOW_LUNGS:]:
        shown[mask] = value
    if z > -80:
        shown[_ellipse(x, y, (0, -102), (18, 5))] = BONE  # the sternum
    return shown


def _ellipse(x: Plane, y: Plane, centre: tuple[float, float], radii: tuple[float, float]) -> Mask:
    inside: Mask = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1
    return inside


def _body(x: Plane, y: Plane) -> Mask:
    return _ellipse(x, y, (0, 8), (180, 124))


def _lungs(x: Plane, y: Plane, z: float) -> Mask:
    """Both lungs: wide above the diaphragm, narrow at the top."""
    height = min(max((z + 130) / 270, 0.0), 1.0)
    width = max(float(np.sin(np.pi * height**0.8)), 0.0) ** 0.5
    if width < 0.15:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)
    left, right = (_ellipse(x, y, (side * 82, 2), (62 * width, 88 * width)) for side in (-1, 1))
    return left | right


def _heart(x: Plane, y: Plane, z: float) -> Mask:
    radius = 1 - ((z + 35) / 62) ** 2
    inside: Mask = ((x - 28) / 58) ** 2 + ((y + 38) / 46) ** 2 < radius
    return inside


def _ribs(x: Plane, y: Plane, z: float) -> Mask:
    """Rings that slope down towards the front, cut by the slice."""
    around = ((x / 160) ** 2 + ((y - 4) / 105) ** 2) ** 0.5
    inside: Mask = (np.abs(around - 1) < 0.05) & ((z + 0.45 * y) % 32 < 11)
    return inside
