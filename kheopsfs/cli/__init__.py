"""The command `kheopsfs`: parse, call, print."""

from kheopsfs.cli.app import app
from kheopsfs.cli.console import concluded


def main() -> None:
    """Run the command that `sys.argv` asks for; ends the process."""
    with concluded():
        app(prog_name="kheopsfs")
