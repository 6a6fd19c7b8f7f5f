"""The command `kheopsfs`: parse, call, print."""

from kheopsfs.cli.app import app
from kheopsfs.cli.console import concluded
from kheopsfs.mount.memory import keep_to_ourselves


def main() -> None:
    """Run the command that `sys.argv` asks for; ends the process."""
    keep_to_ourselves()
    with concluded():
        app(prog_name="kheopsfs")
