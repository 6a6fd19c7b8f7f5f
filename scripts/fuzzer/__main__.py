"""Run targets one after the other, and say how many inputs there were and what broke."""

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

from fuzzing.target import Target
from fuzzing.targets import TARGETS
from harness.figures import record

FOLDER = Path(".fuzz")
LONGEST = 8192  # bytes of an input
SLOWEST = 10  # seconds that one input may take before it counts as a hang
MEMORY = 1024  # MiB of the whole process

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*([0-9]+)")


def corpus(target: Target) -> Path:
    """The folder of inputs, with the seeds among them."""
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in (*target.seeds, *target.regressions):
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return folder


def fuzz(target: Target, seconds: int) -> tuple[int, bool]:
    """How many inputs were tried, and whether all promises held."""
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": SLOWEST,
        "rss_limit_mb": MEMORY,
        "print_final_stats": 1,
        "artifact_prefix": FOLDER / f"{target.name}-",
        "verbosity": 0,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fuzzer.one", target.name),
            *(f"-{name}={value}" for name, value in options.items()),
            corpus(target),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    found = _EXECUTED.search(done.stdout)
    inputs = int(found[1]) if found else 0
    print(f"{target.name:20} {inputs:>10,} inputs   {'held' if done.returncode == 0 else 'BROKEN'}", flush=True)
    if done.returncode:
        # Before this libFuzzer and atheris introduce themselves; a hang has a trace of its own.
        print(done.stdout[max(0, done.stdout.find("=== Uncaught Python exception")) :][-4000:], flush=True)
    return inputs, done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the targets of tests/fuzzing.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[*TARGETS, []], help="all, if none is named")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    arguments = parser.parse_args()
    if arguments.list:
        print(*TARGETS, sep="\n")
        return 0
    chosen = [TARGETS[name] for name in arguments.targets or TARGETS]
    results = [fuzz(target, round(arguments.minutes * 60)) for target in chosen]
    inputs, broken = sum(inputs for inputs, _ in results), sum(not held for _, held in results)
    print(f"{inputs:,} inputs to {len(results)} targets, {broken} broken")
    if not arguments.targets:
        record("inputs", inputs=inputs, targets=len(results), crashes=broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
