"""Files that are whole or absent: what a process that was killed had begun is not left beside them."""

import signal
import subprocess
import sys
from pathlib import Path

from harness.files import write_json
from reports.exports.renewed import renew
from reports.exports.source import EVERY_ROW, Source, Written

WRITER = """
import sys, time
from pathlib import Path
from harness.files import write_pieces

def pieces():
    yield b"begun"
    print("begun", flush=True)
    time.sleep(3600)

write_pieces(Path(sys.argv[1]), pieces())
"""
OFTEN = """
import sys
from pathlib import Path
from harness.files import write_json

for number in range(300):
    write_json(Path(sys.argv[1]), {"number": number})
"""
EXPORTER = """
import sys, time
from pathlib import Path
from harness.scratch import locked_folder

folder = Path(sys.argv[1])
with locked_folder(folder.parent, f".{folder.name}.") as fresh:
    (fresh / "scores").write_text("begun")
    print("begun", flush=True)
    time.sleep(3600)
"""


def begun(program: str, target: Path) -> "subprocess.Popen[bytes]":
    """A process that has begun to write."""
    process = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def killed(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_a_killed_writer_had_begun_goes_with_the_next_writing(tmp_path: Path) -> None:
    killed(begun(WRITER, tmp_path / "report.json"))
    assert len(names(tmp_path)) == 1
    write_json(tmp_path / "report.json", {})
    assert names(tmp_path) == {"report.json"}


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    process = begun(WRITER, tmp_path / "report.json")
    try:
        write_json(tmp_path / "report.json", {})
        assert names(tmp_path) == {"report.json", f".report.json.{process.pid}"}
    finally:
        killed(process)


def test_two_processes_that_write_one_file_again_and_again_do_not_take_each_other_for_killed(
    tmp_path: Path,
) -> None:
    both = [subprocess.Popen([sys.executable, "-c", OFTEN, str(tmp_path / "report.json")]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert names(tmp_path) == {"report.json"}


def test_files_of_other_names_and_of_other_people_stay(tmp_path: Path) -> None:
    others = {".report.json.bak", ".report.json.1.txt", ".report.md.12", "report.json.12"}
    for name in others:
        (tmp_path / name).touch()
    write_json(tmp_path / "report.json", {})
    assert names(tmp_path) == {"report.json", *others}


def exported(source: Source, folder: Path) -> Written:
    folder.mkdir(exist_ok=True)
    (folder / "scores").write_text("whole")
    return Written(files={folder / "scores": "tiny"}, left_out=())


def test_what_a_killed_export_had_begun_goes_with_the_next_one(tmp_path: Path) -> None:
    killed(begun(EXPORTER, tmp_path / "csv"))
    other = begun(EXPORTER, tmp_path / "csv")
    try:
        assert len(names(tmp_path)) == 2
        renew(
            exported,
            Source(run="tiny", entries=(), evaluations=(), hub_tasks={}),
            EVERY_ROW,
            tmp_path / "csv",
        )
        kept = names(tmp_path) - {"csv", ".csv.json"}
        assert len(kept) == 1, "what is being exported stays"
        assert (tmp_path / "csv" / "scores").read_text() == "whole"
    finally:
        killed(other)
