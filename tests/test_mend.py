"""What `harness verify` does in a runs folder of somebody else, or in use, and what mending costs."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.verify import verify
from harness.errors import DataError
from harness.files import write_json
from harness.integrity import SMALL, check_files, of_an_input, sealed_files, with_check
from harness.mend import mend
from harness.rows import count_rows
from harness.runs import Stored
from harness.session import SESSION, check_session
from harness.stage import key_of_identity
from harness.store import RunStore
from harness.verify import Damage, damages, stages_of
from tests.answered import Place, answer, answered, flip
from tests.test_tokens import sample

ROWS = "generations.jsonl"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with answered(tmp_path / "runs") as found:
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the runs folder that nothing may read, rename or write."""
    file = tmp_path / "home" / "authorized_keys"
    file.parent.mkdir()
    file.write_bytes(b"mine\n")
    file.with_name("stage.json").write_bytes(b"{")
    return file


def untouched(secret: Path) -> bool:
    names = {file.name for file in secret.parent.iterdir()}
    return names == {"authorized_keys", "stage.json"} and secret.read_bytes() == b"mine\n"


def forged(folder: Path, files: dict[str, Any]) -> None:
    """A stage.json that says of its own accord which files there were."""
    manifest = json.loads((folder / "stage.json").read_bytes())
    del manifest["check"]
    write_json(folder / "stage.json", with_check({**manifest, "files": {**manifest["files"], **files}}))


def go_over(store: RunStore) -> list[Damage]:
    """Looks, mends, and says what was found."""
    found = [one for key in stages_of(store, None) for one in damages(store.stages / key)]
    list(mend(store, found))
    return found


# A runs folder of somebody else ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["{outside}", "../../../home/authorized_keys", "model/../../x", "/dev/zero", "\x1b"]
)
def test_a_stage_json_names_no_file_outside_of_its_folder(place: Place, secret: Path, name: str) -> None:
    store, _, mark = place
    forged(store.path(mark), {name.format(outside=secret): {"bytes": 0, "sha256": "0"}})
    with pytest.raises(DataError, match=f"{mark.key}.* which is no file of its folder"):
        store.whole(mark)
    assert [one.file for one in go_over(store)] == ["stage.json"]
    assert untouched(secret)


def link(file: Path, secret: Path) -> None:
    file.symlink_to(secret)


def zeros(file: Path, secret: Path) -> None:
    file.symlink_to("/dev/zero")


def pipe(file: Path, secret: Path) -> None:
    os.mkfifo(file)


def folder_link(file: Path, secret: Path) -> None:
    file.symlink_to(secret.parent)


@pytest.mark.parametrize("trap", [link, zeros, pipe, folder_link])
@pytest.mark.parametrize(
    "name",
    [
        ROWS,
        f"{ROWS}.damaged",
        f"{ROWS}.places",
        pytest.param(f".{ROWS}.{os.getpid()}", id="what-is-being-written"),
        "stage.json",
        "stage.json.damaged",
        "identity.json",
        "asked.json",
        "tokens.arrow",
        "model",
    ],
)
def test_what_is_no_file_in_a_stage_is_neither_opened_nor_mended(
    place: Place, secret: Path, trap: Callable[[Path, Path], None], name: str
) -> None:
    store, _, mark = place
    folder = store.path(mark.asked)
    flip(folder / ROWS, 20)
    (folder / name).unlink(missing_ok=True)
    trap(folder / name, secret)
    before = sorted(os.listdir(folder))
    (found,) = go_over(store)
    assert (found.stage, found.read) == (folder.name, False)
    assert sorted(os.listdir(folder)) == before
    assert untouched(secret)


@pytest.mark.parametrize("trap", [link, zeros, pipe])
def test_a_trap_below_a_stage_is_not_opened_by_a_check_either(
    place: Place, secret: Path, trap: Callable[[Path, Path], None]
) -> None:
    store, _, mark = place
    (store.path(mark) / "model").mkdir()
    trap(store.path(mark) / "model" / "x", secret)
    forged(store.path(mark), {"model/x": {"bytes": 0, "sha256": "0"}})
    with pytest.raises(DataError, match="link, or no file"):
        store.whole(mark)
    assert [(one.file, one.read) for one in go_over(store)] == [("model/x", False)]
    assert untouched(secret)


def test_a_folder_below_a_stage_that_is_a_link_is_not_gone_into(place: Place, secret: Path) -> None:
    store, _, mark = place
    (store.path(mark) / "a").mkdir()
    (store.path(mark) / "a" / "b").symlink_to(secret.parent)
    forged(store.path(mark), {"a/b/authorized_keys": {"bytes": 5, "sha256": "0"}})
    assert [(one.file, one.read) for one in go_over(store)] == [("a/b/authorized_keys", False)]
    assert untouched(secret)


@pytest.mark.parametrize("name", ["", ".locks", ".measured", ".damaged"])
def test_a_folder_of_the_store_that_is_a_link_is_refused(place: Place, secret: Path, name: str) -> None:
    """Below `.measured` files are removed by the name of the stage, which may be `package-lock`."""
    store, _, mark = place
    flip(store.path(mark) / "grades.jsonl", 20)
    found = list(damages(store.path(mark)))
    if (store.stages / name).exists():
        (store.stages / name).rename(store.root / "moved")
    (store.stages / name).symlink_to(secret.parent)
    with pytest.raises(DataError, match="is a link"):
        list(mend(store, found))
    with pytest.raises(DataError, match="is a link"):
        stages_of(store, None)
    assert untouched(secret)


def test_a_stage_that_is_a_link_is_left_alone(place: Place, secret: Path) -> None:
    store, _, _ = place
    (store.stages / "ask-1").symlink_to(secret.parent)
    assert [(one.stage, one.read) for one in go_over(store)] == [("ask-1", False)]
    assert untouched(secret)


def test_a_lock_that_is_a_link_is_not_taken(place: Place, secret: Path) -> None:
    """Taking a lock empties its file."""
    store, _, mark = place
    flip(store.path(mark) / "grades.jsonl", 20)
    (store.stages / ".locks" / mark.key).unlink(missing_ok=True)
    (store.stages / ".locks" / mark.key).symlink_to(secret)
    with pytest.raises(DataError, match="is a link"):
        go_over(store)
    assert untouched(secret)


@pytest.mark.parametrize("labels", [b'{"a": "../../home"}', b'{"a": "/dev"}', None])
def test_labels_lead_to_stages_only(place: Place, secret: Path, labels: bytes | None) -> None:
    store, _, mark = place
    file = store.root / "mine" / "labels.json"
    if labels is None:
        file.symlink_to("/dev/zero")
        with pytest.raises(DataError, match="is a link"):
            stages_of(store, "mine")
    else:
        file.write_bytes(labels)
        assert stages_of(store, "mine") == sorted([mark.key, mark.asked.key])


# What cannot be read, and what has just begun ---------------------------------------------------


@pytest.mark.parametrize("name", [ROWS, "stage.json"])
def test_what_cannot_be_read_is_told_and_left(place: Place, name: str) -> None:
    store, _, mark = place
    file = store.path(mark.asked) / name
    file.unlink()
    file.mkdir()
    result = CliRunner().invoke(verify, ["--runs", str(store.root), "--mend"])
    assert f"{file} cannot be read" in result.output
    assert "is left as it is" in result.output
    assert result.exit_code == 1
    assert file.is_dir()


def test_a_stage_that_was_killed_before_it_said_what_it_is_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "ask-1"
    folder.mkdir(parents=True)
    assert not list(damages(folder))
    (folder / "identity.json").write_text("{}")
    assert [one.file for one in damages(folder)] == ["identity.json"]


def test_lines_are_counted_anew_once_nobody_writes_them(place: Place) -> None:
    """Else the row that has come to stand in a damaged one's line would go in its place."""
    store, _, mark = place
    rows = store.path(mark.asked) / ROWS
    flip(rows, rows.read_bytes().rindex(b"boxed{") + 6)
    found, said = list(damages(rows.parent)), list[str]()
    with store.locked(Stored(stored=mark.asked.key), said.append):
        thread = threading.Thread(target=lambda: said.extend(mend(store, found, said.append)))
        thread.start()
        while not any("waiting" in line for line in said):
            thread.join(0.01)
        rows.unlink()
        answer(store, mark.asked)
    thread.join()
    assert count_rows(rows) == 10
    assert not rows.with_name(f"{ROWS}.damaged").exists()


def test_rows_that_were_put_aside_before_stay_aside(place: Place) -> None:
    store, _, mark = place
    rows = store.path(mark.asked) / ROWS
    for number, name in ((1, f"{ROWS}.damaged"), (2, f"{ROWS}.2.damaged")):
        flip(rows, rows.read_bytes().rindex(b"boxed{") + 6)
        list(mend(store, damages(rows.parent)))
        assert rows.with_name(name).read_bytes().count(b"\n") == 1
        assert count_rows(rows) == 10 - number
    assert not [name for name in sealed_files(rows.parent) if "damaged" in name]


# What is lost by mending ------------------------------------------------------------------------


def test_damaged_tokens_take_their_responses_along(place: Place) -> None:
    """Else the same command would find all responses there, and no log-probabilities ever again."""
    store, context, mark = place
    folder = store.path(mark.asked)
    write_tokens(folder)
    (folder / "stage.json").unlink()
    store.build(mark.asked, context)
    flip(folder / "tokens.arrow", (folder / "tokens.arrow").stat().st_size - 40)
    (found,) = damages(folder)
    said = "\n".join(mend(store, [found]))
    assert "nobody can tell which responses' tokens are damaged" in said
    assert not folder.exists()
    assert count_rows(store.stages / ".damaged" / folder.name / ROWS) == 10
    assert store.state(mark) == "partial"

    answer(store, mark.asked)
    fresh = RunStore(store.root)
    fresh.build(mark.asked, context)
    fresh.build(mark, context)
    assert fresh.state(mark) == "done"


def write_tokens(folder: Path) -> None:
    from harness.tokens import TokenFile

    with TokenFile(folder / "tokens.arrow") as file:
        file.append(("q", 0), sample(1))


def test_rows_of_which_nobody_knows_the_engine_get_no_company(place: Place) -> None:
    store, context, mark = place
    session = store.path(mark.asked) / SESSION
    flip(session, 5)
    assert "nobody can say which engine" in "\n".join(mend(store, damages(session.parent)))
    assert not session.exists()
    with pytest.raises(DataError, match="which engine wrote"):
        check_session(session, {"engine": "b"}, has_rows=True)
    RunStore(store.root).build(mark.asked, context)  # no row is missing
    assert not list(damages(session.parent))


def test_batch_files_may_be_removed_once_a_stage_is_finished(place: Place) -> None:
    store, context, mark = place
    folder = store.path(mark.asked)
    (folder / "stage.json").unlink()
    (folder / "batch").mkdir()
    (folder / "batch" / "output-1.jsonl").write_bytes(b"{}\n")
    store.build(mark.asked, context)
    (folder / "batch" / "output-1.jsonl").unlink()
    assert not list(damages(folder))
    assert context.path(mark.asked) == folder


def test_a_large_file_is_hashed_again_only_where_it_changed(tmp_path: Path) -> None:
    identity = {"a": 1}
    folder = tmp_path / "stages" / key_of_identity("base", identity)
    large = folder / "model.safetensors"
    folder.mkdir(parents=True)
    with large.open("wb") as file:
        file.truncate(SMALL + 1)
    manifest = {"identity": identity, "files": sealed_files(folder)}
    write_json(folder / "stage.json", with_check(manifest))
    check_files(folder, of_an_input)
    told = folder.parent / ".measured" / f"{folder.name}.whole.json"
    marks = told.read_bytes()
    large.unlink()
    with pytest.raises(DataError, match="is gone"):
        check_files(folder, of_an_input)
    with large.open("wb") as file:
        file.truncate(SMALL + 1)
        file.seek(100)
        file.write(b"x")
    with pytest.raises(DataError, match="SHA-256"):
        check_files(folder, of_an_input)

    now = large.stat()
    forged_mark = json.loads(marks)
    sha256 = manifest["files"][large.name]["sha256"]
    forged_mark[large.name] = f"{sha256} {now.st_size} {now.st_ino} {now.st_mtime_ns} {now.st_ctime_ns}"
    write_json(told, forged_mark)
    check_files(folder, of_an_input)
    assert "SHA-256" in "".join(one.what for one in damages(folder))
