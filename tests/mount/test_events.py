"""Any sequence of events, against a model of what a mount must show; `scripts/soak` tries many more of them."""

from pathlib import Path

from harness.events import Events, Stage
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

PROFILE = settings(
    max_examples=15,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a sequence that failed is printed as it was: trying shorter ones takes too long
    suppress_health_check=list(HealthCheck),
)


def test_any_sequence_of_events(tmp_path: Path) -> None:
    """S1, S5, S6, S7, S10, S11, S14, S15, S19, S20: whatever happens, in whatever order, what is shown is true."""
    with Stage(tmp_path) as stage:
        run_state_machine_as_test(lambda: Events(stage), settings=PROFILE)  # type: ignore[no-untyped-call]
        for mount in stage.mounts.values():
            assert "a bug in kheopsfs" not in mount.log()
