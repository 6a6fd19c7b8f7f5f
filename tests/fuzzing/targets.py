"""All targets by name."""

from fuzzing import bodies, lists, locally, wire

TARGETS = {target.name: target for module in (bodies, lists, wire, locally) for target in module.TARGETS}
