"""Exports read back by other projects' own code: the same scores, counts and texts as the run's.

tests/acceptance/exports_read_back does it with the newest Inspect too.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet
import pytest

from harness.cli.export import gathered
from harness.errors import UsageError
from harness.machine import load_machine
from harness.sandboxes import in_ci
from harness.setup import environment_python
from harness.store import RunStore
from reports.exports import FORMATS, chosen, hub_tasks
from reports.exports.every_eval_ever import as_one_line
from reports.exports.inspect_log import safe_id
from reports.exports.lighteval import results_of
from reports.exports.renewed import delete
from reports.exports.source import path_part
from reports.exports.spreadsheet import cell
from tests.performance.stored import StoredRun, step
from tests.pipeline.rows import row
from tests.reports import exported
from tests.reports.exported import GATED, MODEL, RUN, Ours, by_csv, by_pandas, harness, read_back

RUNS = (RUN, "limited", "lost")
GPQA = {GATED: ("Idavidrein/gpqa", "gpqa_diamond")}


@dataclass(frozen=True, kw_only=True)
class Made:
    """Three runs with all their exports."""

    runs: Path
    data: Path

    def export(self, run: str, format_: str) -> Path:
        return self.runs / run / "exports" / format_

    def exports(self, format_: str) -> list[Path]:
        return [self.export(run, format_) for run in RUNS]

    @property
    def ours(self) -> list[dict[str, Ours]]:
        return [exported.ours(self.runs, run) for run in RUNS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    runs, data = exported.make_runs(tmp_path_factory.mktemp("exports"), draws=2)
    for run in RUNS:
        exported.done("export", run, "all", runs=runs, data=data)
    return Made(runs=runs, data=data)


@pytest.fixture(scope="module")
def lighteval() -> Path:
    """The Python of lighteval's environment, which has Inspect too. Without one: a skip, in CI a failure."""
    try:
        return environment_python("lighteval", load_machine(None))
    except UsageError as error:
        (pytest.fail if in_ci() else pytest.skip)(str(error))


def test_lighteval_reads_every_score_count_and_text_back(made: Made, lighteval: Path) -> None:
    found = read_back(lighteval, "lighteval", made.exports("lighteval"))
    rows = [exported.compare_lighteval(*both) for both in zip(found, made.ours, strict=True)]
    assert min(rows) > 0
    assert "not_a_score:avg@n" in found[1][0]["table"]


def test_inspect_reads_every_score_count_and_text_back(made: Made, lighteval: Path) -> None:
    found = read_back(lighteval, "inspect", made.exports("inspect"))
    rows = [exported.compare_inspect(*both) for both in zip(found, made.ours, strict=True)]
    assert min(rows) > 0


def test_every_eval_ever_accepts_what_is_a_score_and_gets_nothing_else(made: Made) -> None:
    package = exported.every_eval_ever()
    found = read_back(Path(sys.executable), "every_eval_ever", [made.export(RUN, "every-eval-ever")], package)
    assert exported.compare_every_eval_ever(found[0], made.ours[0]) > 0
    assert not any(made.export(run, "every-eval-ever").exists() for run in RUNS[1:])


def test_the_hubs_own_parser_reads_scores_and_only_of_known_leaderboards(made: Made) -> None:
    tasks = [GPQA, {}, {}]
    for export, mine, known in zip(made.exports("hf-eval-results"), made.ours, tasks, strict=True):
        assert exported.compare_hub(export, mine, known) == len(known)


@pytest.mark.parametrize("read", [by_csv, by_pandas])
def test_csv_reads_back_whoever_reads_it(made: Made, read: exported.Reader) -> None:
    for export, mine in zip(made.exports("csv"), made.ours, strict=True):
        assert exported.compare_csv(export, mine, read) > 0


def test_a_run_with_an_ungraded_response_has_bounds_and_no_score(made: Made) -> None:
    entry = made.ours[2]["micro_science"].entry
    assert (entry["ungraded"], entry["measured"]) == (1, None)
    (line,) = by_csv(made.export("lost", "csv") / "scores.csv")
    assert line["measured"] == ""
    assert float(line["lowest"]) < float(line["highest"])


def contents(export: Path) -> Iterator[bytes]:
    """All that the files of an export hold, unpacked."""
    for file in sorted(export.rglob("*")):
        match file.suffix:
            case ".eval":
                with zipfile.ZipFile(file) as log:
                    yield from (log.read(name) for name in log.namelist())
            case ".parquet":
                yield json.dumps(pyarrow.parquet.read_table(file).to_pylist(), ensure_ascii=False).encode()
            case _ if file.is_file():
                yield file.read_bytes()


def test_no_export_holds_a_text_of_a_gated_data_set_unless_told_to(made: Made, tmp_path: Path) -> None:
    responses = [each.text for each in made.ours[0][GATED].generations.values()]
    digests = {found.group() for text in responses if (found := re.search("[0-9a-f]{64}", text))}
    secret = [text.encode() for text in ("Made-up question", *digests)]
    for format_ in FORMATS:
        assert not held(made.export(RUN, format_), secret), format_
    told = harness(
        *("export", RUN, "all", "--with-gated-text", "--out", str(tmp_path)), runs=made.runs, data=made.data
    )
    assert "its terms forbid publishing them" in told.stderr
    shown = {format_ for format_ in FORMATS if held(tmp_path / format_, secret)}
    assert shown == {"lighteval", "inspect", "every-eval-ever"}


def held(export: Path, texts: list[bytes]) -> list[bytes]:
    return [text for content in contents(export) for text in texts if text in content]


def test_the_same_run_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    exported.done("export", RUN, "all", "--out", str(tmp_path), runs=made.runs, data=made.data)
    before = made.runs / RUN / "exports"
    files = {file.relative_to(before): file.read_bytes() for file in before.rglob("*") if file.is_file()}
    assert len(files) == 20 + len(FORMATS), "with a list of its files beside each"
    assert files == {
        file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
    }


def test_an_export_takes_the_place_of_the_one_before_it_and_of_nothing_else(
    made: Made, tmp_path: Path
) -> None:
    """A score that is none any more must not stay among the exports, nor a log of the former verdicts."""
    runs, out = tmp_path / "runs", tmp_path / "out"
    shutil.copytree(made.runs, runs, symlinks=True)
    places, named = ("--out", str(out)), ("--hub-task", "micro_science=me/quiz:all")
    exported.done("export", RUN, "all", *named, *places, runs=runs, data=made.data)
    exported.done("export", "limited", "lighteval", "inspect", *places, runs=runs, data=made.data)
    (out / "inspect" / "mine.txt").write_text("not of an export")
    former = set(out.rglob("*"))
    assert {"micro_science.yaml", "micro_science"} <= {path.name for path in former}

    exported.lose_an_order(runs, RUN)
    exported.done("regrade", RUN, runs=runs, data=made.data)
    exported.done("export", f"{RUN}/{MODEL}", "all", *named, *places, runs=runs, data=made.data)
    now = set(out.rglob("*"))
    assert not {"micro_science.yaml", "micro_science"} & {path.name for path in now}
    assert [len(list(out.glob(f"lighteval/results/{run}/*/*"))) for run in (RUN, "limited")] == [1, 1]
    assert [len(list(out.glob(f"lighteval/details/{run}/*/*"))) for run in (RUN, "limited")] == [1, 1]
    assert len(list(out.glob("inspect/*.eval"))) == len(made.ours[0]) + 1
    assert (out / "inspect" / "mine.txt").exists()
    assert any("micro-science" in path.name for path in now - former), "nothing new was written"


def test_a_list_of_exported_files_deletes_nothing_elsewhere(tmp_path: Path) -> None:
    folder, outside = tmp_path / "csv", tmp_path / "mine.csv"
    (folder / "a" / "b").mkdir(parents=True)
    outside.write_text("mine")
    (folder / "a" / "b" / "old").write_text("old")
    for file in (Path("../mine.csv"), outside, Path("a/b/old")):
        delete(folder, file)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.csv"]


def test_lighteval_is_told_of_all_tasks_only_what_all_of_them_share(made: Made) -> None:
    source = gathered(RunStore(made.runs), RUN, made.data, False, {})
    first, *others = source.evaluations
    asked = first.mark.asked
    drawn = replace(asked.drawn, max_tokens=399)
    benchmark = replace(first.benchmark, sampling=drawn)
    odd = replace(first.mark, asked=replace(asked, benchmark=benchmark, limit=3, system="Be long."))
    same, mixed = (
        results_of("x", [one, *others])["config_general"] for one in (first, replace(first, mark=odd))
    )
    assert same["model_config"]["system_prompt"] == "=Be brief."
    assert same["model_config"]["generation_parameters"]["max_new_tokens"] == 400
    assert "system_prompt" not in mixed["model_config"]
    assert "max_new_tokens" not in mixed["model_config"]["generation_parameters"]
    assert mixed["model_config"]["generation_parameters"]["temperature"] == drawn.temperature
    assert mixed["max_samples"] is None
    own = mixed["harness"]["tasks"][f"harness:{first.name}|0"]
    assert (own["max_samples"], own["system_prompt"]) == (3, "Be long.")
    assert own["generation_parameters"]["max_new_tokens"] == 399


def test_an_export_draws_no_picture(made: Made, tmp_path: Path) -> None:
    """The pictures of a report take a hundred times as long as its scores."""
    told = subprocess.run(
        [
            *(sys.executable, "-X", "importtime", "-m", "harness.cli", "export", RUN, "csv"),
            *("--runs", str(made.runs), "--data", str(made.data), "--out", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=exported.ROOT,
    )
    assert "reports.exports.spreadsheet" in told.stderr
    assert "matplotlib" not in told.stderr


@pytest.mark.parametrize(
    ("run", "format_", "reason"),
    [
        ("limited", "hf-eval-results", "only the first questions were asked"),
        ("lost", "every-eval-ever", "ungraded responses: 1"),
    ],
)
def test_what_is_no_score_is_refused_where_only_a_score_can_be_said(
    made: Made, run: str, format_: str, reason: str
) -> None:
    told = harness("export", run, format_, runs=made.runs, data=made.data)
    assert told.returncode == 1
    assert reason in told.stderr


def test_a_leaderboard_can_be_named_and_a_row_chosen(made: Made, tmp_path: Path) -> None:
    named = ("--hub-task", "micro_math=me/sums:all", "--json", "--out", str(tmp_path))
    told = exported.done(
        "export", f"{RUN}/{MODEL}", "hf-eval-results", *named, runs=made.runs, data=made.data
    )
    written = json.loads(told)["hf-eval-results"]
    assert [Path(file).name for file in written["files"]] == ["micro_math.yaml", "gpqa_diamond.yaml"]
    tasks = {"micro_math": ("me/sums", "all"), **GPQA}
    assert exported.compare_hub(tmp_path / "hf-eval-results", made.ours[0], tasks) == 2


def test_an_unknown_format_suggests_a_known_one(made: Made) -> None:
    told = harness("export", RUN, "inpsect", runs=made.runs, data=made.data)
    assert told.returncode == 64
    assert "Did you mean 'inspect'" in told.stderr
    assert list(chosen(("all", "csv"))) == list(FORMATS)
    with pytest.raises(UsageError, match="ORG/DATASET:TASK is expected"):
        hub_tasks(("micro_math=sums",))


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "  =1", "'=1", "-1+2"])
def test_what_a_spreadsheet_would_run_is_text_there(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-7", "+3.5", "12", -7, 0.25, "a=b", "naïve"])
def test_numbers_and_plain_words_stay_as_they_are(value: object) -> None:
    assert cell(value) == value


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "..", "a\\b", "a\nb", ""])
def test_a_name_from_outside_is_one_part_of_a_path(name: str, tmp_path: Path) -> None:
    assert (tmp_path / path_part(name)).parent == tmp_path
    assert path_part(name) not in ("", ".", "..")
    assert "/" not in safe_id(name)
    assert safe_id(name).isprintable()


def test_a_line_of_json_is_one_line_for_python_too() -> None:
    text = "a\x85b\u2028c\u2029d\x0be"
    line = as_one_line({"text": text}).decode()
    assert line.splitlines() == [line.removesuffix("\n")]
    assert json.loads(line) == {"text": text}


HELD = 25 * 2**20
"""Bytes by which the memory of the command may differ between the two: the larger run has 50 MB of rows."""


def test_no_export_holds_a_run_in_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (40, 520):
        folder = tmp_path / str(rows)
        folder.mkdir()
        url = "http://127.0.0.1:9/v1"  # nobody is there: nothing is asked
        stored = StoredRun(runs=folder / "runs", url=url, rows=rows, characters=100_000, missing=0)
        stored.write(row(""), b'{"engine": "remote", "version": "unknown"}')
        step(stored.evaluate(), folder / "evaluate.log")
        peaks.append(step([*stored.command("export"), "all"], folder / "export.log").peak)
    assert peaks[1] - peaks[0] < HELD, peaks
