"""Rules are tested without a stopwatch: how long one example takes depends on who else uses the machine."""

from hypothesis import settings

settings.register_profile("kheopsfs-tree", deadline=None)
settings.load_profile("kheopsfs-tree")
