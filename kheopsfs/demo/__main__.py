"""`python -m kheopsfs.demo`: the demo server with every switch that tests and benchmarks need."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kheopsfs.demo import worlds
from kheopsfs.demo.answers import Behaviour
from kheopsfs.demo.control import Control
from kheopsfs.demo.server import Announcement, serve
from kheopsfs.demo.synthetic import SyntheticSpec
from kheopsfs.errors import KheopsfsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, serve until a signal."""
    options = _parser().parse_args(arguments)
    try:
        if options.synthetic is not None:
            world = worlds.of_spec(options.synthetic)
        elif options.data is not None:
            world = worlds.of_folder(options.data)
        else:
            world = worlds.of_samples()
        serve(
            world,
            _print_json if options.json else _print_text,
            port=options.port,
            behaviour=Behaviour(numbers=options.numbers, gzip=options.gzip, latency=options.latency),
            certfile=options.certfile,
            keyfile=options.keyfile,
            wrap=Control if options.control else lambda kheops: kheops,
        )
    except (KheopsfsError, OSError) as error:
        sys.stderr.write(f"The demo server cannot start: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kheopsfs.demo", description="A server that speaks Kheops.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; any free one by default")
    parser.add_argument("--data", type=Path, help="serve the DICOM files below this folder instead of the samples")
    parser.add_argument(
        "--synthetic", type=_spec, help="serve a made-up archive: studies=N,slices=N,small=N,multiframe=SIZE,albums=N"
    )
    parser.add_argument("--json", action="store_true", help="announce in one line of JSON")
    parser.add_argument("--control", action="store_true", help="open /_control, which lets anybody change everything")
    parser.add_argument("--certfile", type=Path, help="PEM certificate chain: serve TLS")
    parser.add_argument("--keyfile", type=Path, help="PEM key of the certificate")
    parser.add_argument("--gzip", action="store_true", help="compress everything for clients that offer gzip")
    parser.add_argument("--numbers", action="store_true", help="IS and DS as JSON numbers, as before Kheops v1.0.0")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before any answer")
    return parser


def _spec(text: str) -> SyntheticSpec:
    try:
        return SyntheticSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _print_json(announcement: Announcement) -> None:
    sys.stdout.write(announcement.as_json() + "\n")
    sys.stdout.flush()


def _print_text(announcement: Announcement) -> None:
    lines = [announcement.url, *(f"  {token.token}  {token.what}" for token in announcement.tokens)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
