"""dicomweb-client as a peer: a process of its own that writes a series to files and prints the seconds it took.

Starting Python and importing are not counted. Arguments: folder, URL, study, series, then "iterated" or, one request
each, the instances to ask for. The token comes on standard input.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient

STORED = (("application/dicom", "*"),)  # as they are stored: nothing is to be decompressed


def _instances(client: Any, study: str, series: str, wanted: list[str]) -> Iterator[Any]:
    if wanted == ["iterated"]:
        yield from client.iter_series(study, series, media_types=STORED)
        return
    for SOPInstanceUID in wanted:
        yield client.retrieve_instance(study, series, SOPInstanceUID, media_types=STORED)


def main(folder: Path, url: str, study: str, series: str, *wanted: str) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {sys.stdin.readline().strip()}"
    session.trust_env = False
    client = DICOMwebClient(url, session=session)
    begun = time.perf_counter()
    for number, dataset in enumerate(_instances(client, study, series, list(wanted))):
        dataset.save_as(folder / f"{number:05}.dcm")
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
