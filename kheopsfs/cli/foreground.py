"""What `kheopsfs mount -f` becomes: the process that serves the mount, in front, logging to the terminal.

`kheopsfs.mount.launch` says why this is a fresh start of Python and not a function call.
"""

from kheopsfs.cli.console import concluded
from kheopsfs.mount.background import serve, take_order


def main() -> None:
    """Serve the mount that the order on standard input describes; ends the process."""
    with concluded():
        serve(take_order(), log_file=None, ready=lambda: None)


if __name__ == "__main__":
    main()
