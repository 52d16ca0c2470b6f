"""`harness nightly` from the command line, against servers that are processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.fakes.engine import running

COMMAND = [sys.executable, "-m", "harness.cli"]
GOOD, BAD = ("--sums", "0.97"), ("--sums", "0.6")
RESPONSES = 40 * 4
CONFIG = """
[[checkpoints]]
name = "tiny"
model = "tiny"
base_url = "{url}"
benchmarks = ["micro_math:4"]
[gate]
drop = 10
minimum_history = 3
"""


def nightly(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "nightly", "nightly.toml", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
    )


def told(home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of a night."""
    done = nightly(home, "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def configure(home: Path, url: str, more: str = "") -> None:
    (home / "nightly.toml").write_text(CONFIG.format(url=url) + more)


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history of three quiet nights, 1 to 3."""
    home = tmp_path_factory.mktemp("quiet")
    with running(*GOOD) as endpoint:
        configure(home, endpoint.base_url)
        for label in "123":
            assert nightly(home, "--night", label).returncode == 2
    return home


@pytest.fixture
def home(three_nights: Path, tmp_path: Path) -> Path:
    shutil.copytree(three_nights, tmp_path / "home", symlinks=True)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    with running(*GOOD) as endpoint:
        yield endpoint.base_url


def test_a_drop_is_a_regression_with_its_flips_and_the_next_good_night_passes(home: Path, good: str) -> None:
    with running(*BAD) as endpoint:
        configure(home, endpoint.base_url)
        code, night = told(home, "--night", "4")
    (result,) = night["results"]
    assert (code, night["outcome"], night["asked_anew"]) == (1, "regression", RESPONSES)
    assert result["score"] <= result["judged"]["threshold"] < result["judged"]["mean"]
    lost = [flip for flip in result["flips"] if flip["tonight"] < flip["before"]]
    assert len(lost) > 20
    assert any(change.startswith("model: ") for change in result["changed"])
    configure(home, good)
    code, night = told(home, "--night", "5")
    assert (code, night["outcome"]) == (0, "pass")
    assert night["results"][0]["judged"]["nights"] == 3, "the regression is no part of the history"


def test_the_same_night_again_asks_nothing_and_another_night_asks_everything(home: Path, good: str) -> None:
    configure(home, good)
    code, first = told(home, "--night", "4")
    assert (code, first["asked_anew"], first["asked_before"]) == (0, RESPONSES, 0)
    shutil.rmtree(home / "runs" / "stages")
    done = nightly(home, "--night", "4")
    assert done.returncode == 0
    assert f"asked anew: nothing; the {RESPONSES} responses of this night are there already" in done.stdout
    _, today = told(home)
    _, again = told(home, "--again")
    assert today["asked_anew"] == again["asked_anew"] == RESPONSES
    assert again["night"] == f"{today['night']}.2"
    assert today["results"][0]["texts"] != again["results"][0]["texts"]


def test_a_killed_night_counts_for_nothing_and_is_continued(home: Path) -> None:
    with running(*GOOD, "--delay", "1") as endpoint:
        configure(home, endpoint.base_url)
        command = subprocess.Popen(
            [*COMMAND, "nightly", "nightly.toml"],
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = set((home / "runs" / "stages").glob("ask-*"))
        while not any(
            (ask / "generations.jsonl").exists() and (ask / "generations.jsonl").read_bytes()
            for ask in set((home / "runs" / "stages").glob("ask-*")) - before
        ):
            assert command.poll() is None
            time.sleep(0.05)
        os.kill(command.pid, signal.SIGSTOP)
        another = nightly(home)
        assert another.returncode == 2
        assert "another process is at work" in another.stderr
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        assert "not over" in nightly(home, "--show").stdout
        code, night = told(home)
    assert code == 0
    assert 0 < night["asked_before"] < RESPONSES
    assert night["asked_anew"] + night["asked_before"] == RESPONSES
    assert night["results"][0]["judged"]["nights"] == 3


def test_a_server_that_is_gone_is_inconclusive_and_the_night_is_completed_later(
    home: Path, good: str
) -> None:
    configure(home, "http://127.0.0.1:9/v1")
    code, night = told(home, "--night", "4")
    assert (code, night["outcome"], night["asked_anew"]) == (2, "inconclusive", 0)
    assert "127.0.0.1:9" in night["results"][0]["judged"]["reason"]
    configure(home, good)
    code, night = told(home, "--night", "4")
    assert (code, night["outcome"], night["asked_anew"]) == (0, "pass", RESPONSES)


def test_other_draws_begin_a_new_history_and_say_so(home: Path, good: str) -> None:
    configure(home, good)
    text = (home / "nightly.toml").read_text()
    (home / "nightly.toml").write_text(text.replace("micro_math:4", "micro_math:5"))
    done = nightly(home, "--night", "4")
    assert done.returncode == 2
    assert "a new history begins" in done.stdout
    assert "draws: 4 → 5" in done.stdout


def test_an_accepted_drop_is_the_new_level(home: Path) -> None:
    with running(*BAD) as endpoint:
        configure(home, endpoint.base_url)
        assert nightly(home, "--night", "4").returncode == 1
        accepted = nightly(home, "--accept")
        assert accepted.returncode == 0
        assert "tiny/micro_math: the history begins anew with night 4" in accepted.stdout
        code, night = told(home, "--night", "5")
    assert (code, night["results"][0]["judged"]["reason"]) == (
        2,
        "1 of the 3 nights of history that are needed",
    )
    assert nightly(home, "--accept").returncode == 64, "nothing regressed"
    unknown = nightly(home, "--accept", "--line", "tiny/micro_maths")
    assert unknown.returncode == 64
    assert "Did you mean 'tiny/micro_math'" in unknown.stderr


HOOK = """
[notify]
command = [{python}, "hook.py"]
on = ["pass", "regression", "inconclusive"]
timeout = 3
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit(5)", "exited with 5"),
        ("import time; time.sleep(600)", "had not ended after 3 s and was stopped"),
    ],
)
def test_a_hook_that_fails_or_hangs_is_told_and_changes_nothing(
    home: Path, good: str, script: str, said: str
) -> None:
    configure(home, good, HOOK.format(python=json.dumps(sys.executable)))
    (home / "hook.py").write_text(script)
    done = nightly(home, "--night", "4")
    assert done.returncode == 0
    assert said in done.stdout


def test_the_hook_gets_the_night_on_its_input_also_where_the_night_came_to_no_end(home: Path) -> None:
    configure(home, "http://127.0.0.1:9/v1", HOOK.format(python=json.dumps(sys.executable)))
    (home / "hook.py").write_text(
        "import os, sys; open('told', 'w').write(os.environ['HARNESS_OUTCOME'] + '\\n' + sys.stdin.read())"
    )
    assert nightly(home, "--night", "4").returncode == 2
    outcome, _, document = (home / "told").read_text().partition("\n")
    assert (outcome, json.loads(document)["night"]) == ("inconclusive", "4")
    (home / "machine.toml").write_text("gpus = 'many'")
    broken = nightly(home, "--night", "5", "--machine", "machine.toml")
    assert broken.returncode == 64, "what is wrong in a file of the user's is no outcome"
    (home / "machine.toml").unlink()
    with FileLock(home / "runs" / "nightly" / ".history.sqlite.nightly.lock"):
        assert nightly(home, "--night", "6").returncode == 2
    outcome, _, document = (home / "told").read_text().partition("\n")
    assert outcome == "inconclusive"
    assert "error" in json.loads(document)


def test_a_regression_is_one_whatever_breaks_after_it_is_recorded(home: Path) -> None:
    """The page cannot be written, and nothing can be printed."""
    (home / "hook.py").write_text("import os; open('told', 'a').write(os.environ['HARNESS_OUTCOME'])")
    (home / "runs" / "nightly" / "trend.html").unlink()
    (home / "runs" / "nightly" / "trend.html").mkdir()
    with running(*BAD) as endpoint:
        configure(home, endpoint.base_url, HOOK.format(python=json.dumps(sys.executable)))
        done = nightly(home, "--night", "4")
        assert done.returncode == 1, done.stderr
        assert "the trend page failed, which changes no outcome" in done.stdout
        assert (home / "told").read_text() == "regression"
    with Path("/dev/full").open("w") as full:
        unprinted = subprocess.run(
            [*COMMAND, "nightly", "nightly.toml", "--night", "4", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=home,
        )
    assert unprinted.returncode == 1, unprinted.stderr
    assert "the night is recorded and could not be printed" in unprinted.stderr


def test_a_folder_that_is_away_tonight_leaves_the_other_checkpoints_their_night(
    home: Path, good: str
) -> None:
    away = '[[checkpoints]]\nname = "mine"\nmodel = "/srv/nowhere/today"\nbenchmarks = ["micro_math:4"]\n'
    configure(home, good, away)
    code, night = told(home, "--night", "4")
    tiny, mine = night["results"]
    assert (code, night["outcome"], night["asked_anew"]) == (2, "inconclusive", RESPONSES)
    assert (tiny["judged"]["outcome"], mine["judged"]["outcome"]) == ("pass", "inconclusive")
    assert "/srv/nowhere/today" in mine["judged"]["reason"]


def test_a_second_file_of_the_same_name_is_refused_and_a_moved_one_goes_on(home: Path, good: str) -> None:
    configure(home, good)
    assert nightly(home, "--night", "4").returncode == 0
    (home / "nightly.toml").rename(home / "moved.toml")
    (home / "nightly.toml").write_text((home / "moved.toml").read_text())
    (home / "moved.toml").write_text('name = "nightly"\n' + (home / "nightly.toml").read_text())
    command = [*COMMAND, "nightly", "moved.toml", "--night", "4"]
    second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert second.returncode == 64
    assert "the nights of 'nightly' are those of another file" in second.stderr
    (home / "nightly.toml").unlink()
    moved = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert moved.returncode == 0, moved.stderr


def test_the_history_is_a_document_too(home: Path) -> None:
    nights = json.loads(nightly(home, "--show", "--json").stdout)
    assert [night["label"] for night in nights] == ["1", "2", "3"]
    assert nights[0]["results"][0]["benchmark"] == "micro_math"


def test_a_pipe_that_somebody_closed_is_no_regression(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9/v1")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "nightly", "nightly.toml", "--show"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        cwd=tmp_path,
    )
    os.close(writing)
    assert done.returncode == 2, done.stderr


def test_old_nights_lose_their_responses_but_for_those_that_others_link_to(home: Path, good: str) -> None:
    configure(home, good, "[history]\nkeep_rows = 2\n")
    (mark,) = (home / "runs" / "nightly-2" / "eval" / "tiny").iterdir()
    linked = home / "runs" / "mine" / "eval" / "tiny"
    linked.mkdir(parents=True)
    (linked / "micro_math").symlink_to(mark.readlink())
    tried = nightly(home, "--dry-run")
    assert "would remove: the responses of nightly-1 (2 stages)" in tried.stdout
    assert (home / "runs" / "nightly-1").exists()
    done = nightly(home, "--night", "4")
    assert "removed: the responses of nightly-1, nightly-2 (2 stages); their counts stay" in done.stdout
    assert not (home / "runs" / "nightly-1").exists()
    assert (linked / "micro_math" / "grades.jsonl").exists()
    assert len(list((home / "runs" / "stages").glob("ask-*"))) == 3
    shown = nightly(home, "--show").stdout
    assert all(f"│ {label} " in shown for label in "1234")
    compared = subprocess.run(
        [*COMMAND, "compare", "nightly-3", "nightly-4"], capture_output=True, text=True, check=False, cwd=home
    )
    assert compared.returncode == 0, compared.stderr


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        (("benchmarks", "benchmark"), (), "setting 'benchmark' in [checkpoints]. Did you mean 'benchmarks'"),
        (("drop", "dorp"), (), "unknown setting 'dorp' in [gate]. Did you mean 'drop'"),
        (("[gate]", "[gates]"), (), "unknown setting 'gates'. Did you mean 'gate'"),
        (("micro_math", "micro_maths"), (), "unknown benchmark 'micro_maths'. Did you mean 'micro_math'"),
        (("drop = 10", "drop = 0"), (), "drop"),
        (("name =", 'claims = "dasd-4b/relased"\nname ='), (), "Did you mean 'released'"),
        (("name =", 'engine = "vlm"\nname ='), (), "base_url names a running server"),
        (("", ""), ("--show", "--accept"), "these options do not go together"),
        (("", ""), ("--line", "tiny/micro_math"), "these options do not go together"),
        (("", ""), ("--night", "a/b"), "a night cannot be called 'a/b'"),
        (("", ""), ("--dry-run", "--json"), "--json prints a night or, with --show, the history"),
        (("", ""), ("--accept", "--json"), "--json prints a night or, with --show, the history"),
        (("[[", 'name = "dasd"\n[['), ("--night", "4b"), "the name of another run or recipe"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_64_and_says_what_was_meant(
    tmp_path: Path, change: tuple[str, str], arguments: tuple[str, ...], said: str
) -> None:
    configure(tmp_path, "http://127.0.0.1:9/v1")
    text = (tmp_path / "nightly.toml").read_text()
    (tmp_path / "nightly.toml").write_text(text.replace(*change, 1) if change[0] else text)
    done = nightly(tmp_path, *arguments)
    assert done.returncode == 64, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_history_that_is_none_is_inconclusive(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9/v1", '[history]\npath = "kept.sqlite"\n')
    (tmp_path / "kept.sqlite").write_text("no database, for sure; long enough to be read as a header " * 20)
    done = nightly(tmp_path)
    assert done.returncode == 2
    assert "cannot be read as a history" in done.stderr


def test_a_row_that_is_not_made_yet_is_inconclusive_and_an_unknown_one_is_usage(tmp_path: Path) -> None:
    made = '[[checkpoints]]\nmodel = "dasd-micro/{row}"\nbenchmarks = ["micro_math"]\n'
    (tmp_path / "nightly.toml").write_text(made.format(row="final"))
    code, night = told(tmp_path)
    assert code == 2
    assert "dasd-micro/final is not made yet" in night["results"][0]["judged"]["reason"]
    (tmp_path / "nightly.toml").write_text(made.format(row="finale"))
    done = nightly(tmp_path)
    assert done.returncode == 64
    assert "Did you mean 'final'" in done.stderr
