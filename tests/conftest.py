"""How hypothesis tries examples: however long one takes, for tests do not measure time on a machine they share."""

from hypothesis import settings

settings.register_profile("kheopsfs", deadline=None)
settings.load_profile("kheopsfs")
