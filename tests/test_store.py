"""The run store: what counts as done, what survives a crash, who waits for whom."""

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError, StageError
from harness.files import write_rows
from harness.hardware import gpu_lines
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, Runner, RunStore, differences, unwritten


@dataclass(frozen=True, kw_only=True)
class Write(Stage):
    """Appends a line to runs.txt each time it runs, so that runs can be counted."""

    text: str
    fail: bool = False
    after: Stage | None = None

    def run(self, out: Path, context: Context) -> None:
        with (out / "runs.txt").open("a") as file:
            file.write(self.text + "\n")
        if self.fail:
            raise StageError("as asked")


@dataclass(frozen=True, kw_only=True)
class Sleep(Stage):
    """Says that it has begun, then sleeps."""

    seconds: float

    def run(self, out: Path, context: Context) -> None:
        with (out / "runs.txt").open("a") as file:
            file.write("run\n")
        time.sleep(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """Fails until its data are there: having left a checkpoint and no rows, or at once."""

    data: Stage
    at_once: bool = False

    def run(self, out: Path, context: Context) -> None:
        if self.at_once:
            context.path(self.data)
        (out / "checkpoint").mkdir(exist_ok=True)
        context.path(self.data)


@dataclass(frozen=True, kw_only=True)
class Breaks(Stage):
    """Leaves an nvidia-smi that cannot be run any more."""

    driver: str

    def run(self, out: Path, context: Context) -> None:
        Path(self.driver).write_text("no program")
        gpu_lines.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def context(store: RunStore) -> Iterator[Context]:
    machine = Machine()
    with ServerPool(machine) as pool:
        yield Context(store, machine, PlainProgress(), pool)


def runs(store: RunStore, stage: Stage) -> int:
    return len((store.path(stage) / "runs.txt").read_text().split())


def test_a_stage_runs_once_however_often_it_is_built(store: RunStore, context: Context) -> None:
    stage = Write(text="once")
    store.build(stage, context)
    store.build(stage, context)
    assert store.state(stage) == "done"
    assert runs(store, stage) == 1


def test_a_failed_stage_is_partial_and_runs_again_in_the_same_directory(
    store: RunStore, context: Context
) -> None:
    stage = Write(text="again", fail=True)
    for _ in range(2):
        with pytest.raises(StageError):
            store.build(stage, context)
    assert store.state(stage) == "partial"
    assert runs(store, stage) == 2


def test_a_copy_that_finds_no_room_is_told_by_where_it_was_to_be_written(tmp_path: Path) -> None:
    failed = OSError(errno.ENOSPC, "No space left on device", "from", None, str(tmp_path / "to"))
    assert f"cannot write {tmp_path / 'to'}: No space" in unwritten(failed, tmp_path).message


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM, errno.EACCES])
def test_who_may_not_write_is_told_whose_folder_it_is_and_not_to_free_space(
    tmp_path: Path, number: int
) -> None:
    told = str(unwritten(OSError(number, os.strerror(number), str(tmp_path / "no" / "file")), tmp_path))
    assert f"{tmp_path} belongs to {tmp_path.owner()}" in told
    assert "Make it writable" in told
    assert "Free some space" not in told


def test_a_file_in_a_folders_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    failed = OSError(errno.ENOTDIR, "Not a directory", str(tmp_path / "runs" / "stages"))
    assert f"{tmp_path / 'runs'} is no folder. Move it away" in str(unwritten(failed, tmp_path))


def test_a_directory_without_stage_json_is_never_an_input(store: RunStore, context: Context) -> None:
    stage = Write(text="half")
    store.path(stage).mkdir(parents=True)
    with pytest.raises(StageError, match="not complete"):
        context.path(stage)


def test_the_runner_builds_inputs_before_what_reads_them(store: RunStore, context: Context) -> None:
    first = Write(text="first")
    Runner(store, context).build("demo", {"second": Write(text="second", after=first)})
    assert store.state(first) == "done"


def test_a_read_only_runs_folder_is_named_and_nothing_counts_as_done(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    store = RunStore(tmp_path / "runs")
    stage = Write(text="x")
    with ServerPool(Machine()) as pool, pytest.raises(HarnessError, match="cannot write"):
        store.build(stage, Context(store, Machine(), PlainProgress(), pool))
    assert store.state(stage) == "missing"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    write_rows(target, [{"a": 1}])

    def rows() -> Iterator[object]:
        yield {"a": 2}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_rows(target, rows())
    assert target.read_text() == '{"a":1}\n'
    assert list(tmp_path.iterdir()) == [target]


def build_sleep(root: Path) -> None:
    store = RunStore(root)
    with ServerPool(Machine()) as pool:
        store.build(Sleep(seconds=1.0), Context(store, Machine(), PlainProgress(), pool))


def test_two_processes_build_a_stage_once(store: RunStore) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=build_sleep, args=(store.root,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert runs(store, Sleep(seconds=1.0)) == 1


def build_long(root: Path) -> None:
    store = RunStore(root)
    with ServerPool(Machine()) as pool:
        store.build(Sleep(seconds=60.0), Context(store, Machine(), PlainProgress(), pool))


def test_the_lock_of_a_killed_process_is_free(store: RunStore, context: Context) -> None:
    stage = Sleep(seconds=60.0)
    worker = multiprocessing.get_context("spawn").Process(target=build_long, args=(store.root,))
    worker.start()
    while not (store.path(stage) / "runs.txt").exists():
        time.sleep(0.05)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert store.state(stage) == "partial"
    with store.locked(stage, fail_on_waiting):
        pass


def fail_on_waiting(text: str) -> None:
    raise AssertionError(text)


def test_links_have_human_names_and_follow_a_change(store: RunStore, context: Context) -> None:
    first, second = Write(text="a"), Write(text="b")
    for stage in (first, second):
        store.build(stage, context)
        store.view("demo", {"01-write": stage, "eval/base/x": stage})
    assert (store.root / "demo" / "01-write").resolve() == store.path(second).resolve()
    assert (store.root / "demo" / "eval" / "base" / "x" / "stage.json").exists()


def test_the_plan_names_the_field_that_changed(store: RunStore, context: Context) -> None:
    store.build(Write(text="old"), context)
    store.view("demo", {"01-write": Write(text="old")})
    planned = store.plan("demo", {"01-write": Write(text="new")})[0]
    assert planned.state == "missing"
    assert planned.changed == ('text: "old" → "new"',)
    assert store.plan("demo", {"01-write": Write(text="old")})[0].changed == ()


def test_an_unfinished_change_still_shows_in_the_plan(store: RunStore, context: Context) -> None:
    runner = Runner(store, context)
    runner.build("demo", {"01-write": Write(text="old")})
    with pytest.raises(StageError):
        runner.build("demo", {"01-write": Write(text="new", fail=True)})
    missing = store.plan("demo", {"01-write": Write(text="newer")})[0]
    assert missing.changed == ('text: "old" → "newer"',)


def test_differences_look_into_nested_settings() -> None:
    before = {"sampling": {"temperature": 0.6, "top_p": 1.0}}
    now = {"sampling": {"temperature": 1.0, "top_p": 1.0}}
    assert list(differences(before, now)) == ["sampling.temperature: 0.6 → 1.0"]


def test_the_manifest_names_inputs_by_key(store: RunStore, context: Context) -> None:
    first = Write(text="first")
    second = Write(text="second", after=first)
    Runner(store, context).build("demo", {"second": second})
    manifest = json.loads((store.path(second) / "stage.json").read_text())
    assert manifest["inputs"] == [first.key]
    assert manifest["identity"]["after"] == first.key


def test_the_manifest_says_that_an_earlier_start_left_work_though_it_left_no_rows(
    store: RunStore, context: Context
) -> None:
    data = Write(text="data")
    whole, resumed = Train(data=data, at_once=True), Train(data=data)
    for stage in (whole, resumed):
        with pytest.raises(StageError, match="not complete"):
            store.build(stage, context)
    for stage in (data, whole, resumed):
        store.build(stage, context)
    assert [store.manifest(stage)["resumed"] for stage in (whole, resumed)] == [False, True]


def build_beside_a_driver(root: Path, driver: Path) -> None:
    os.environ["PATH"] = f"{driver.parent}:{os.environ['PATH']}"
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    store, machine = RunStore(root), Machine(gpus=1)
    with ServerPool(machine) as pool:
        context = Context(store, machine, PlainProgress(), pool)
        for stage in (Breaks(driver=str(driver)), Write(text="afterwards")):
            store.build(stage, context)


def test_a_driver_that_breaks_down_loses_no_stage_and_the_gpu_is_that_of_the_begin(
    store: RunStore, tmp_path: Path
) -> None:
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'H100, 80000'\n")
    driver.chmod(0o755)
    worker = multiprocessing.get_context("spawn").Process(
        target=build_beside_a_driver, args=(store.root, driver)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    stages = (Breaks(driver=str(driver)), Write(text="afterwards"))
    assert [store.manifest(stage)["workplace"]["gpu"] for stage in stages] == ["H100", ""]
