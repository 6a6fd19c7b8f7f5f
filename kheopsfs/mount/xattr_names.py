"""What the extended attributes of a mount are called: for those who answer, and for those who ask.

A module of its own, so that a command that asks need not load what answers.
"""

DICOM = "user.dicom."  # followed by a keyword of PS3.6, or eight hex digits
SIZE = "user.kheops.size"
CACHED = "user.kheops.cached"
URL = "user.kheops.url"
