"""Pins, the lock file, checkpoints; a small server plays the Hub."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from harness.errors import DataError, UsageError
from harness.hub import (
    Checkpoint,
    Lock,
    check_revision,
    check_rows,
    checkpoint,
    checkpoint_hash,
    find_file,
    find_files,
    local_checkpoint,
    read_jsonl,
    row_hash,
)
from harness.machine import Machine

COMMIT = "c" * 40
ROWS = b'{"id": "a", "x": 1, "text": "b"}\n'
LISTED = [
    {"Path": "README.md", "Type": "blob", "Size": 1, "Sha256": "0" * 64},
    {"Path": "test.jsonl", "Type": "blob", "Size": len(ROWS), "Sha256": hashlib.sha256(ROWS).hexdigest()},
]
MODEL = {
    "config.json": b"{}",
    "model-00001-of-00001.safetensors": b"weights",
    "original/config.json": b"{}",
    "original/model--00001-of-00001.safetensors": b"the same weights",
}
FILES = """
import sys
from pathlib import Path
from harness.errors import HarnessError
from harness.hub import find_files, find_present
try:
    found = find_files("org/set", "unpinned", ["missing/*", "*.jsonl"], Path("data"), sys.argv[1])
    same = found.paths[0].read_bytes() == sys.argv[2].encode()
    print(found.origin, [path.name for path in found.paths], same)
    print(find_present("org/set", "unpinned", ["*.parquet", "*.jsonl"], None, sys.argv[1]) == found)
except HarnessError as error:
    print(error)
"""
FIND = """
import sys
from harness.hub import find_files, find_present
try:
    print(find_files("org/set", "unpinned", [sys.argv[2]], None, sys.argv[1]).paths[0].name)
except Exception as error:
    print(type(error).__name__, error)
print(find_present("org/set", "unpinned", [sys.argv[2]], None, sys.argv[1]))
"""
QUESTIONS = """
import sys
from harness.machine import Machine
from pipeline.sources import HubSource
from pipeline.tables import Table
table = Table(repo="org/set", revision="unpinned", files=("*.jsonl",), columns=(("question", "id"),))
machine = Machine(gpus=0, hub=sys.argv[1], columns={"org/set": {"question": sys.argv[2]}})
try:
    pool = HubSource(domain="math", table=table, count=1).pool(machine)
    print([question.prompt for question in pool.questions])
except Exception as error:
    print(type(error).__name__, error)
"""
CHECKPOINT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from harness.errors import HarnessError
from harness.hub import Checkpoint, MODEL_FILES, cached
from harness.machine import Machine
Path("out").mkdir(exist_ok=True)
stage = Checkpoint(source="org/model", revision="unpinned")
try:
    stage.run(Path("out"), SimpleNamespace(machine=Machine(gpus=0, hub=sys.argv[1])))
    print(sorted(path.name for path in Path("out/model").iterdir()))
except HarnessError as error:
    print(error)
print(cached("org/model", "unpinned", list(MODEL_FILES), "model", sys.argv[1]) is not None)
"""
FETCH = """
import sys
from harness.errors import HarnessError
from harness.hub import find_file
try:
    found = find_file("org/set", sys.argv[1], ["missing.jsonl", "test.jsonl"], None)
    print(found.origin, found.path.read_bytes() == sys.argv[2].encode())
except HarnessError as error:
    print(error)
"""


class FakeHub(BaseHTTPRequestHandler):
    """Answers for org/set at one commit; the branch has moved on to another after `moved`."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith(f"/api/datasets/org/set/tree/{COMMIT}"):
            files = [{"type": "file", "path": each["Path"], "size": 1, "oid": "0"} for each in LISTED]
            return self.send(200, json.dumps(files).encode(), body)
        if self.path.startswith("/api/datasets/org/set"):
            files = [{"rfilename": "README.md"}, {"rfilename": "test.jsonl"}]
            told = {"id": "org/set", "sha": COMMIT, "siblings": files}
            return self.send(200, json.dumps(told).encode(), body)
        if self.path.endswith(f"/resolve/{COMMIT}/test.jsonl"):
            return self.send(200, ROWS, body)
        if self.path.startswith(f"/api/v1/datasets/org/set/repo/tree?Revision={COMMIT}"):
            return self.send(200, json.dumps({"Code": 200, "Data": {"Files": LISTED}}).encode(), body)
        if self.path.startswith("/api/v1/datasets/org/set/repo?") and f"Revision={COMMIT}" in self.path:
            return self.send(200, ROWS, body)
        if self.path.startswith("/datasets/org/set.git/info/refs"):
            return self.send(200, f"{COMMIT}\trefs/heads/master\n".encode(), body)
        if self.path == "/datasets/org/set.git/HEAD":
            return self.send(200, b"ref: refs/heads/master\n", body)
        for name, content in MODEL.items():
            if self.path.endswith((f"/org/model/resolve/{COMMIT}/{name}", f"FilePath={quote(name, '')}")):
                return self.send(200, content, body)
        if self.path.startswith(f"/api/models/org/model/tree/{COMMIT}"):
            files = [{"type": "file", "path": name, "size": len(MODEL[name]), "oid": "0"} for name in MODEL]
            return self.send(200, json.dumps(files).encode(), body)
        if self.path.startswith("/api/models/org/model"):
            siblings = [{"rfilename": name} for name in MODEL]
            told = {"id": "org/model", "sha": COMMIT, "siblings": siblings}
            return self.send(200, json.dumps(told).encode(), body)
        if self.path.startswith("/api/v1/models/org/model/repo/files?"):
            files = [{"Path": name, "Type": "blob", "Size": len(MODEL[name])} for name in MODEL]
            return self.send(200, json.dumps({"Code": 200, "Data": {"Files": files}}).encode(), body)
        if self.path.startswith("/org/model.git/info/refs"):
            return self.send(200, f"{COMMIT}\trefs/heads/master\n".encode(), body)
        if self.path == "/org/model.git/HEAD":
            return self.send(200, b"ref: refs/heads/master\n", body)
        return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})

    def send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        told = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            **(headers or {}),
        }
        for name, value in {**told, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub: ThreadingHTTPServer, folder: Path, revision: str) -> str:
    """Runs find_file in a process of its own, in `folder`, against the fake Hub."""
    return ask(hub, folder, FETCH, revision)


def ask(hub: ThreadingHTTPServer, folder: Path, code: str, argument: str, second: str = ROWS.decode()) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "MODELSCOPE_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "MODELSCOPE_HOME": str(folder / "modelscope"),
        "XDG_CACHE_HOME": str(folder / "xdg"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", code, argument, second]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_unpinned_is_resolved_once_and_locked(hub: ThreadingHTTPServer, tmp_path: Path):
    assert fetch(hub, tmp_path, "unpinned") == f"{COMMIT} True\n"
    assert json.loads((tmp_path / "harness.lock").read_bytes()) == {"org/set": {"revision": COMMIT}}
    asked = len([path for path in hub.asked if path.startswith("/api/datasets")])
    assert fetch(hub, tmp_path, "unpinned") == f"{COMMIT} True\n"
    assert len([path for path in hub.asked if path.startswith("/api/datasets")]) == asked


def test_all_matching_files_come_from_hugging_face_at_the_locked_commit(
    hub: ThreadingHTTPServer, tmp_path: Path
):
    assert ask(hub, tmp_path, FILES, "huggingface") == f"{COMMIT} ['test.jsonl'] True\nTrue\n"
    assert not any("README" in path for path in hub.asked)
    code = f"import os; os.environ['HF_HUB_OFFLINE'] = '1'\n{FILES}"
    assert ask(hub, tmp_path, code, "huggingface") == f"{COMMIT} ['test.jsonl'] True\nTrue\n"
    assert "not found" in ask(hub, tmp_path, code.replace('"*.jsonl"', '"*.csv"'), "huggingface")


def test_modelscope_is_asked_by_its_own_library_and_its_commit_is_locked_apart(
    hub: ThreadingHTTPServer, tmp_path: Path
):
    told = ask(hub, tmp_path, FILES, "modelscope")
    assert told.splitlines()[-2:] == [f"{COMMIT} ['test.jsonl'] True", "True"]
    assert json.loads((tmp_path / "harness.lock").read_bytes()) == {
        "modelscope:org/set": {"revision": COMMIT, f"files of {COMMIT}": ["README.md", "test.jsonl"]}
    }
    assert not any("FilePath=README" in path for path in hub.asked)


HUBS = ("huggingface", "modelscope")


@pytest.mark.parametrize("name", HUBS)
def test_of_a_model_only_the_files_at_its_top_are_downloaded(
    hub: ThreadingHTTPServer, tmp_path: Path, name: str
):
    told = ask(hub, tmp_path, CHECKPOINT, name)
    assert told.splitlines()[-2:] == ["['config.json', 'model-00001-of-00001.safetensors']", "True"]
    assert any("model-00001" in path for path in hub.asked)
    assert not any("original" in path for path in hub.asked)
    assert not list((tmp_path).rglob("original"))


def test_a_checkpoint_in_the_cache_is_enough_without_a_network(hub: ThreadingHTTPServer, tmp_path: Path):
    first = ask(hub, tmp_path, CHECKPOINT, "huggingface")
    (tmp_path / "harness.lock").write_text(json.dumps({"org/model": {"revision": COMMIT}}), encoding="utf-8")
    hub.shutdown()
    hub.server_close()
    assert ask(hub, tmp_path, CHECKPOINT, "huggingface") == first
    (next(tmp_path.glob("cache/hub/*/snapshots/*")) / "config.json").unlink()
    told = ask(hub, tmp_path, CHECKPOINT, "huggingface")
    assert "org/model at revision unpinned: the checkpoint not found" in told


@pytest.mark.parametrize("name", HUBS)
def test_a_part_of_a_download_is_not_the_whole_even_without_a_network(
    hub: ThreadingHTTPServer, tmp_path: Path, name: str
):
    ask(hub, tmp_path, FILES, name)
    lock = tmp_path / "harness.lock"
    content = json.loads(lock.read_bytes())
    (entry,) = content.values()
    entry[f"files of {COMMIT}"].append("more.jsonl")
    lock.write_text(json.dumps(content), encoding="utf-8")
    hub.shutdown()
    hub.server_close()
    told = ask(hub, tmp_path, FIND, name, "*.jsonl")
    assert "MissingDataError" in told
    assert told.splitlines()[-1] == "None"
    assert "test.jsonl" in ask(hub, tmp_path, FIND, name, "test*").splitlines()[-1]


@pytest.mark.parametrize("name", HUBS)
def test_what_is_cached_is_enough_without_a_network(hub: ThreadingHTTPServer, tmp_path: Path, name: str):
    ask(hub, tmp_path, FILES, name)
    hub.shutdown()
    hub.server_close()
    assert ask(hub, tmp_path, FIND, name, "*.jsonl").splitlines()[-2] == "test.jsonl"


def test_of_modelscope_nothing_counts_whose_files_were_never_listed(hub: ThreadingHTTPServer, tmp_path: Path):
    ask(hub, tmp_path, FILES, "modelscope")
    lock = {"modelscope:org/set": {"revision": COMMIT}}
    (tmp_path / "harness.lock").write_text(json.dumps(lock), encoding="utf-8")
    hub.shutdown()
    hub.server_close()
    assert ask(hub, tmp_path, FIND, "modelscope", "*.jsonl").splitlines()[-1] == "None"


@pytest.mark.parametrize("name", HUBS)
def test_a_pattern_that_misses_names_the_files_that_there_are(
    hub: ThreadingHTTPServer, tmp_path: Path, name: str
):
    assert "it has README.md, test.jsonl" in ask(hub, tmp_path, FIND, name, "*.parquet")
    folder = tmp_path / "data" / "org" / "set"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("a\n", encoding="utf-8")
    told = ask(
        hub, tmp_path, FIND.replace("None, sys", "__import__('pathlib').Path('data'), sys"), name, "*.x"
    )
    assert "data/org/set (which holds rows.csv)" in told


def test_a_corrected_column_is_locked_apart_and_changed_questions_say_how_to_go_on(
    hub: ThreadingHTTPServer, tmp_path: Path
):
    assert ask(hub, tmp_path, QUESTIONS, "huggingface", "id") == "['a']\n"
    assert ask(hub, tmp_path, QUESTIONS, "huggingface", "text") == "['b']\n"
    lock = tmp_path / "harness.lock"
    content = json.loads(lock.read_bytes())
    entry = "rows of math questions by question = text"
    content["org/set"][entry] = {"all questions": "0"}
    lock.write_text(json.dumps(content), encoding="utf-8")
    assert ask(hub, tmp_path, QUESTIONS, "huggingface", "id") == "['a']\n"
    told = ask(hub, tmp_path, QUESTIONS, "huggingface", "text")
    assert told.startswith(
        "DataError math questions by question = text: row 'all questions' in org/set is not"
    )
    assert f"remove {entry!r} of 'org/set' from harness.lock" in told


def test_files_that_no_hub_gives_name_every_place(hub: ThreadingHTTPServer, tmp_path: Path):
    for name in ("huggingface", "modelscope"):
        told = ask(hub, tmp_path, FILES.replace("org/set", "org/nothing"), name)
        assert "org/nothing at revision unpinned: missing/* or *.jsonl not found" in told
        assert "data/datasets/org/nothing" in told


def test_commit_without_the_file_says_so(hub: ThreadingHTTPServer, tmp_path: Path):
    told = fetch(hub, tmp_path, "d" * 40)
    assert f"commit {'d' * 40} has none of missing.jsonl, test.jsonl" in told
    assert "--data" in told


@pytest.mark.parametrize("revision", ["main", "v1.0", "", "abc123", "C" * 40])
def test_branch_tag_and_short_hash_are_refused(revision: str):
    with pytest.raises(UsageError, match="not a commit"):
        check_revision("org/set", revision)


def test_local_file_is_found_in_all_three_layouts(tmp_path: Path):
    layouts = ("short/test.jsonl", "org/set/test.jsonl", f"datasets--org--set/snapshots/{COMMIT}/test.jsonl")
    for number, layout in enumerate(layouts):
        file = tmp_path / str(number) / layout
        file.parent.mkdir(parents=True)
        file.write_bytes(ROWS)
        found = find_file("org/set", COMMIT, ["test.jsonl"], tmp_path / str(number), ["short/test.jsonl"])
        assert (found.path, found.origin) == (file, "local")


def test_local_files_are_found_in_the_layouts_of_both_hubs(tmp_path: Path):
    layouts = (
        "org/set.v1/train.jsonl",
        f"datasets--org--set.v1/snapshots/{COMMIT}/train.jsonl",
        f"datasets/org--set.v1/snapshots/{COMMIT}/train.jsonl",
        "datasets/org/set___v1/train.jsonl",
    )
    for number, layout in enumerate(layouts):
        file = tmp_path / str(number) / layout
        file.parent.mkdir(parents=True)
        file.write_bytes(ROWS)
        found = find_files("org/set.v1", "unpinned", ["*.parquet", "*.jsonl"], tmp_path / str(number))
        assert (found.paths, found.origin) == ((file,), "local")


def test_two_local_snapshots_of_an_unpinned_set_are_not_guessed_between(tmp_path: Path):
    for commit in ("a" * 40, "b" * 40):
        (tmp_path / f"datasets--org--set/snapshots/{commit}").mkdir(parents=True)
    with pytest.raises(DataError, match="holds 2 revisions"):
        find_file("org/set", "unpinned", ["test.jsonl"], tmp_path)


def test_changed_row_is_named_and_so_are_missing_and_extra_ones():
    pinned = {"a": row_hash({"x": 1}), "b": row_hash({"x": 2})}
    check_rows("set", pinned, pinned, "here")
    with pytest.raises(DataError, match="row 'b' in here is not the pinned one"):
        check_rows("set", {**pinned, "b": row_hash({"x": 3})}, pinned, "here")
    with pytest.raises(DataError, match="row 'b' is missing"):
        check_rows("set", {"a": pinned["a"]}, pinned, "here")
    with pytest.raises(DataError, match="row 'c' in here is not part"):
        check_rows("set", {**pinned, "c": "0"}, pinned, "here")


def test_locked_rows_name_the_one_that_changed(tmp_path: Path):
    lock = Lock(tmp_path / "harness.lock")
    lock.check_rows("org/set", "set", {"a": "1", "b": "2"})
    lock.check_rows("org/set", "set", {"a": "1", "b": "2"})
    with pytest.raises(DataError, match="row 'b'") as error:
        lock.check_rows("org/set", "set", {"a": "1", "b": "3"})
    assert "remove 'rows of set' of 'org/set' from" in error.value.remedy


def test_lines_are_not_split_at_u2028(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a\u2028b\x85c"}\n\n{"text": "d"}\n', encoding="utf-8")
    assert [row["text"] for row in read_jsonl(file)] == ["a\u2028b\x85c", "d"]


def test_broken_line_is_named(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n{"a": ', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        list(read_jsonl(file))


def made_up_checkpoint(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "notes.pdf").write_bytes(b"not part of it")
    return folder


def context(data: Path | None = None) -> SimpleNamespace:
    return SimpleNamespace(machine=Machine(data=data, gpus=0))


def test_checkpoint_is_its_content_wherever_it_stands(tmp_path: Path):
    here = local_checkpoint(made_up_checkpoint(tmp_path / "one" / "m"))
    there = local_checkpoint(made_up_checkpoint(tmp_path / "two" / "m"))
    other = local_checkpoint(made_up_checkpoint(tmp_path / "three" / "m", b"other"))
    assert here.key == there.key != other.key
    assert here == there
    assert "path" not in here.identity


def test_checkpoint_stage_puts_the_files_under_model(tmp_path: Path):
    stage = local_checkpoint(made_up_checkpoint(tmp_path / "m"))
    out = tmp_path / "out"
    out.mkdir()
    stage.run(out, context())
    stage.run(out, context())
    assert sorted(file.name for file in (out / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert checkpoint_hash(out / "model") == stage.sha256
    assert not any(file.is_symlink() for file in (out / "model").iterdir())


def test_checkpoint_that_changed_since_is_refused(tmp_path: Path):
    folder = made_up_checkpoint(tmp_path / "m")
    stage = local_checkpoint(folder)
    (folder / "model.safetensors").write_bytes(b"changed")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is not the checkpoint"):
        stage.run(tmp_path / "out", context())


def test_hub_checkpoint_is_taken_from_the_data_folder(tmp_path: Path):
    made_up_checkpoint(tmp_path / "data" / "org" / "model")
    out = tmp_path / "out"
    out.mkdir()
    Checkpoint(source="org/model", revision=COMMIT).run(out, context(tmp_path / "data"))
    assert (out / "model" / "config.json").exists()


def test_missing_shard_is_named(tmp_path: Path):
    folder = made_up_checkpoint(tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(DataError, match=r"model-2\.safetensors"):
        local_checkpoint(folder)


def test_folder_without_weights_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(DataError, match="not a checkpoint"):
        local_checkpoint(tmp_path)


def test_command_line_names_folder_or_hub_commit(tmp_path: Path):
    folder = made_up_checkpoint(tmp_path / "m")
    assert checkpoint(str(folder)).sha256
    assert checkpoint(f"org/model@{COMMIT}") == Checkpoint(source="org/model", revision=COMMIT)
    assert checkpoint("org/model").revision == "unpinned"
    for wrong in ("org/model@main", "./nowhere", "nowhere"):
        with pytest.raises(UsageError):
            checkpoint(wrong)
