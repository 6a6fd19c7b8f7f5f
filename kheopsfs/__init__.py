"""kheopsfs: a Kheops server as folders and files."""

__version__ = "0.1.0"
