"""One target, until libFuzzer has had enough: `python -m fuzzer.one TARGET [libFuzzer's options and corpus]`."""

import logging
import sys

import atheris

# Only modules that are imported inside are guided by: before anything else can have imported them.
with atheris.instrument_imports(include=["kheopsfs"], enable_loader_override=False):
    from fuzzing.targets import TARGETS


def main() -> None:
    logging.disable()  # thousands of lines about lists that are none
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
