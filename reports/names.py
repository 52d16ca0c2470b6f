"""What a page calls the stages of a run: each by all of its labels."""

from collections.abc import Mapping

from harness.evaluate import Mark
from harness.stage import Stage, ordered
from harness.store import readable


def names_of(labels: Mapping[str, Stage]) -> dict[str, str]:
    """A name for each stage's key, inputs included.

    A stage with several labels has all of them: two rows of one model share their evaluations. What only
    evaluations read is called after all rows that it is read for: `base, final · checkpoint`. The rest is
    as `harness.store.readable` has it.
    """
    names, named = readable(dict(labels)), labels_by_key(labels)
    names.update({key: ", ".join(own) for key, own in named.items()})
    others = {one.key for stage in labels.values() if not isinstance(stage, Mark) for one in ordered([stage])}
    rows: dict[str, dict[str, None]] = {}
    kinds: dict[str, str] = {}
    for label, stage in labels.items():
        if not isinstance(stage, Mark):
            continue
        for read in ordered(list(stage.asked.inputs)):
            kinds[read.key] = read.kind
            rows.setdefault(read.key, {})[label.split("/")[1]] = None
        names[stage.asked.key] = f"{names[stage.key]} · {stage.asked.kind}"
    for key, own in rows.items():
        if key not in others:
            names[key] = f"{', '.join(own)} · {kinds[key]}"
    return names


def labels_by_key(labels: Mapping[str, Stage]) -> dict[str, list[str]]:
    """The labels of each stage that has any."""
    found: dict[str, list[str]] = {}
    for label, stage in labels.items():
        found.setdefault(stage.key, []).append(label)
    return found
