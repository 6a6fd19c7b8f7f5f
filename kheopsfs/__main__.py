"""`python -m kheopsfs` is the command `kheopsfs`."""

from kheopsfs.cli import main

if __name__ == "__main__":
    main()
