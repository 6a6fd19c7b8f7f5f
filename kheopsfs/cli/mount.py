"""`kheopsfs mount` and `kheopsfs umount`."""

from pathlib import Path
from typing import Annotated

import typer

from kheopsfs.cli.access import gain_access
from kheopsfs.cli.console import out
from kheopsfs.cli.options import Auth, InsecureHttp, Target, TokenFile, mountpoint_argument
from kheopsfs.config import LogLevel, NamesStyle, SizesMode
from kheopsfs.errors import FUSEUnavailableError
from kheopsfs.mount import launch, stop
from kheopsfs.mount.environment import check_mountpoint, fuse_problem

OFFLINE = """\
Offline: the server is never contacted. Folders that were listed before show what they held then, files that were opened
or pulled before can be read, and everything else fails at once with an input/output error. For the server's present
state unmount and mount again without --offline."""


def mount(
    url: Target,
    mountpoint: Annotated[Path, mountpoint_argument("An empty directory.")],
    *,
    foreground: Annotated[
        bool, typer.Option("-f", "--foreground", help="Stay in front until Ctrl-C, and log to the terminal.")
    ] = False,
    token_file: TokenFile = None,
    auth: Auth = None,
    cache_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", show_default="~/.cache/kheopsfs", help="Where fetched files are kept; mounts may share it."
        ),
    ] = None,
    cache_size: Annotated[
        str | None, typer.Option(metavar="SIZE", show_default="10G", help="What they may take, such as 500M.")
    ] = None,
    list_ttl: Annotated[
        str | None, typer.Option(metavar="SECONDS", show_default="60", help="How long a listing counts as fresh.")
    ] = None,
    names: Annotated[
        NamesStyle | None,
        typer.Option(
            show_default="readable", help="What names are made of: patient and description, PatientID, or UIDs only."
        ),
    ] = None,
    sizes: Annotated[
        SizesMode | None,
        typer.Option(
            help="What `ls -l` sees before a file was opened: an upper bound, or the exact size, for which its series "
            "is fetched.",
            show_default="bound",
        ),
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(show_default="info", help="What is logged.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("-o", metavar="A,B=C", help="FUSE mount options, such as allow_other.")
    ] = None,
    insecure_http: InsecureHttp = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Never contact the server: show what is cached, as last seen with this very token."
        ),
    ] = False,
) -> None:
    """Mount a server on an empty directory.

    Returns as soon as the mount answers and leaves it in the background, or says why there is none.

    Each option can also be set in the environment (KHEOPSFS_CACHE_SIZE=50G), or in the config file
    ~/.config/kheopsfs/config.toml, where a profile gives a name to a URL and its options.

      kheopsfs mount https://kheops.example.org ~/kheops --token-file ~/token
      kheopsfs mount https://kheops.example.org/view/TOKEN ~/kheops
      kheopsfs mount hospital ~/kheops
    """
    if problem := fuse_problem():
        raise FUSEUnavailableError(problem)
    flags = {
        "token_file": token_file,
        "auth": auth,
        "cache_dir": cache_dir,
        "cache_size": cache_size,
        "list_ttl": list_ttl,
        "names": names,
        "sizes": sizes,
        "log_level": log_level,
        "fuse_options": ",".join(options) if options else None,
        "insecure_http": "true" if insecure_http else None,
        "offline": "true" if offline else None,
    }
    access = gain_access(url, check_mountpoint(mountpoint), flags)
    if foreground:
        launch.in_foreground(access.settings, access.token, "kheopsfs.cli.foreground")
    launch.in_background(access.settings, access.token)
    out.print(f"{access.address.api} is mounted on {mountpoint}", markup=False)
    if access.settings.offline:
        out.print(OFFLINE)


def umount(
    mountpoint: Annotated[Path, mountpoint_argument("What was given to kheopsfs mount.")],
) -> None:
    """Unmount, and wait until everything is gone; also if the process that served the mount is dead."""
    stop.stop(mountpoint)
