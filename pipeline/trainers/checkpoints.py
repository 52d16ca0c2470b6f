"""What a trainer saves: whole checkpoints to go on from, and the finished one."""

import json
import shutil
from pathlib import Path

CHAT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
STATE = "trainer_state.json"


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint of an interrupted training."""
    whole = [path for path in work.glob("checkpoint-*") if is_json(path / STATE)]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def discard_torn(work: Path) -> None:
    """Removes checkpoints that were being written when their training ended."""
    for path in work.glob("checkpoint-*"):
        if not is_json(path / STATE):
            shutil.rmtree(path)


def is_json(file: Path) -> bool:
    """Whether a file is there and whole: the trainers write this one last, but not atomically."""
    try:
        json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def copy_chat_files(base: Path, model: Path) -> None:
    """Gives a checkpoint its base's tokenizer and chat template unchanged, and no other."""
    for name in CHAT_FILES:
        (model / name).unlink(missing_ok=True)
        if (base / name).exists():
            shutil.copyfile(base / name, model / name)
