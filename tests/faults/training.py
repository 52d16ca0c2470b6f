"""A training as a command of its own, which ends as every command of the harness does.

python -m tests.faults.training RUNS MACHINE TRAINER
"""

import random
from pathlib import Path

import click

from harness.cli import COMMANDS, main
from harness.cli.options import Place
from harness.cli.running import build, running
from harness.stage import Stage
from tests.pipeline.training import GivenRows

BASE = Path(__file__).parents[2] / "pipeline" / "micro" / "base"
LESSONS = 24


def stages(trainer: str) -> dict[str, Stage]:
    """A small training on worked problems, three epochs of twelve steps, by the name of its trainer."""
    from harness.hub import local_checkpoint
    from pipeline.micro import textbook
    from pipeline.sft import Sft

    rng = random.Random("kills of a training")
    drawn = [textbook.lesson(rng, {"full": 1.0}, {"math": 1.0}) for _ in range(LESSONS)]
    data = GivenRows(pairs=tuple((one.question, one.answer) for one in drawn))
    trained = Sft(
        base=local_checkpoint(BASE),
        data=data,
        trainer="trl" if trainer == "trl" else "llamafactory",
        epochs=3,
        cutoff=256,
        batch=2,
        packing="none",
        system="You are a helpful assistant.",
    )
    return {"data": data, "trained": trained}


@click.command()
@click.argument("runs", type=click.Path(path_type=Path))
@click.argument("machine", type=click.Path(path_type=Path))
@click.argument("trainer")
def train(runs: Path, machine: Path, trainer: str) -> None:
    with running(Place(runs, None, machine)) as (store, context):
        build(store, context, "kept", stages(trainer))


PLACES = {"train": f"{__name__}:train"}

if __name__ == "__main__":
    COMMANDS.update(PLACES)
    main()
