"""What is fed with arbitrary bytes, and what must hold whatever they are.

Each target is one function that takes bytes and raises if a promise is broken. `tests/fuzzing/test_fuzzing.py` feeds it
for some seconds with mutated seeds (hypothesis); `scripts/fuzz` for as long as one likes, guided by what the bytes make
the code do (atheris). An input that once broke a promise stays among the target's regressions.
"""
