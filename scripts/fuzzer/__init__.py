"""Coverage-guided fuzzing of the targets in tests/fuzzing, with atheris; started by `scripts/fuzz`.

Each target runs in a process of its own (`fuzzer.one`), because libFuzzer ends its process when it is done. Inputs
that reached new code are kept in `.fuzz/<target>` and are where the next run starts; an input that broke a promise is
printed and kept as `.fuzz/<target>-crash-…`: it belongs into the target's regressions, once what it broke is repaired.
"""
