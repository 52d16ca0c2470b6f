"""Settings with which the gate could never say anything, or would say it wrongly, are refused at once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.nightly import nightly
from harness.errors import UsageError
from harness.nightly.config import Nightly, load_nightly

CHECKPOINT = '[[checkpoints]]\nmodel = "tiny"\nbase_url = "http://127.0.0.1:9/v1"\nbenchmarks = ["{asked}"]\n'


def loaded(home: Path, gate: str) -> Nightly:
    (home / "nightly.toml").write_text(f"{CHECKPOINT.format(asked='micro_math:4')}[gate]\n{gate}\n")
    return load_nightly(home / "nightly.toml")


def test_a_history_that_the_waiting_nights_leave_too_short_for_ever_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minimum_history = 8 is never reached") as refused:
        loaded(tmp_path, "minimum_history = 8\nmaximum_history = 8")
    assert "maximum_history = 13 or more" in refused.value.remedy
    assert loaded(tmp_path, "minimum_history = 8\nmaximum_history = 13").gate.maximum_history == 13
    with pytest.raises(UsageError, match="is never reached"):
        loaded(tmp_path, "minimum_history = 8\nmaximum_history = 12")


@pytest.mark.parametrize("gate", ["k = 8", "alpha = 1e-13"])
def test_a_level_that_no_p_value_reaches_is_refused(tmp_path: Path, gate: str) -> None:
    with pytest.raises(UsageError, match=gate.split()[0]):
        loaded(tmp_path, gate)
    assert loaded(tmp_path, "k = 6").gate.k == 6


@pytest.mark.parametrize(("asked", "code"), [("micro_math:4", 64), ("micro_math", 64), ("micro_math:1", 0)])
def test_several_draws_at_temperature_0_are_one_that_is_copied_and_are_refused(
    tmp_path: Path, asked: str, code: int
) -> None:
    config = tmp_path / "nightly.toml"
    config.write_text(CHECKPOINT.format(asked=asked) + "temperature = 0.0\n")
    done = CliRunner().invoke(nightly, [str(config), "--dry-run", "--runs", str(tmp_path / "runs")])
    if code:
        assert isinstance(done.exception, UsageError)
        assert "4 draws a question at temperature 0 are one" in str(done.exception)
    else:
        assert done.exit_code == 0, done.output
