"""A run made by the real commands against a fake server, its exports, and how other projects read them.

tests/reports/test_exports.py and tests/acceptance/exports_read_back share it.
"""

import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import parse_eval_result_entries
from platformdirs import user_cache_path

from harness.rows import read_in_order
from harness.setup import locked
from harness.types import Generation, Grade
from tests.benchmarks.gpqa_rows import made_up_rows, write

ROOT = Path(__file__).parents[2]
READERS = Path(__file__).with_name("readers")
HOME = user_cache_path("dasd-harness") / "readers"
MODEL, RUN = "tiny", "shown"
MICRO = ("micro_math", "micro_science", "micro_code")
GATED = "gpqa_diamond"
EVERY_EVAL_EVER = "every-eval-ever==0.3.0"
Key = tuple[str, int]
Reader = Callable[[Path], list[dict[str, str]]]


# Making the run -----------------------------------------------------------------------------


@contextmanager
def answering(data: Path, log: Path) -> Iterator[str]:
    """The URL of a server that knows the answers to the benchmarks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = ROOT / "tests" / "fakes" / "known_answers.py"
    command = [sys.executable, str(script), "--port", str(port), "--model", MODEL, "--data", str(data)]
    names = ",".join([*MICRO, GATED])
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(
            [*command, "--benchmarks", names], env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return


def harness(*arguments: str, runs: Path, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *arguments, "--runs", str(runs), "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def done(*arguments: str, runs: Path, data: Path) -> str:
    """What a command printed that must not fail."""
    ended = harness(*arguments, runs=runs, data=data)
    assert ended.returncode == 0, f"{arguments}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return ended.stdout


def make_runs(folder: Path, draws: int) -> tuple[Path, Path]:
    """The folders of runs and data. `shown` has every kind of answer to integers, choices and programs, and
    a gated benchmark; `limited` asked few questions; of `lost` one option order was lost, so that its verdict
    cannot be given."""
    runs, data = folder / "runs", write(folder / "data", made_up_rows())
    with answering(data, folder / "server.log") as url:
        evaluate = ["evaluate", MODEL, "--base-url", url, "--max-tokens", "400"]
        system = ("--system", "=Be brief.")
        science = ("-b", f"micro_science:{draws}")
        asked = ["-b", f"micro_math:{draws}", *science, "-b", f"{GATED}:1", "--name", RUN, *system]
        done(*evaluate, *asked, "-b", "micro_code:1", runs=runs, data=data)
        done(*evaluate, *science, "--limit", "3", "--name", "limited", runs=runs, data=data)
        done(*evaluate, *science, "--name", "lost", "--set", "count=12", runs=runs, data=data)
    lose_an_order(runs, "lost")
    done("regrade", "lost", runs=runs, data=data)
    return runs, data


def lose_an_order(runs: Path, run: str) -> None:
    """Takes the option order from one stored response to micro_science, and its verdicts with it."""
    mark = (runs / run / "eval" / MODEL / "micro_science").resolve()
    asked = json.loads((mark / "identity.json").read_bytes())["asked"]
    rows = runs / "stages" / asked / "generations.jsonl"
    first, *rest = rows.read_text().split("\n")
    rows.write_text("\n".join([json.dumps({**json.loads(first), "kept": {}}), *rest]))
    manifest = json.loads((rows.parent / "stage.json").read_bytes())
    earlier = {name: told for name, told in manifest.items() if name not in ("files", "check")}
    (rows.parent / "stage.json").write_text(json.dumps(earlier))  # of a version that told no file's hash
    rows.with_name(f"{rows.name}.places").unlink()
    (mark / "stage.json").unlink()
    (mark / "grades.jsonl").unlink()


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What the run itself says of one benchmark."""

    entry: dict[str, Any]
    generations: dict[Key, Generation]
    grades: dict[Key, Grade]
    system: str | None

    @property
    def keys(self) -> set[Key]:
        return set(self.grades)


def ours(runs: Path, run: str) -> dict[str, Ours]:
    """The entries of report.json with the rows of the store, by benchmark."""
    entries = json.loads((runs / run / "report.json").read_bytes())["entries"]
    found = {}
    for entry in entries:
        mark = (runs / run / "eval" / entry["row"] / entry["benchmark"]).resolve()
        asked = mark.parent / json.loads((mark / "identity.json").read_bytes())["asked"]
        found[entry["benchmark"]] = Ours(
            entry=entry,
            generations={
                (r.question, r.draw): r for r in read_in_order(asked / "generations.jsonl", Generation)
            },
            grades={(g.question, g.draw): g for g in read_in_order(mark / "grades.jsonl", Grade)},
            system=json.loads((asked / "identity.json").read_bytes())["system"],
        )
    return found


# Other projects' readers --------------------------------------------------------------------


def every_eval_ever() -> Path:
    """A folder with the package alone: our Python, though older than it wants, has all that it imports."""
    folder = HOME / EVERY_EVAL_EVER.replace("==", "-")
    HOME.mkdir(parents=True, exist_ok=True)
    with locked(HOME / f"{folder.name}.lock", "every-eval-ever", print):
        if not (folder / "complete").exists():
            options = [
                "--quiet",
                "--no-deps",
                "--ignore-requires-python",
                "--upgrade",
                "--target",
                str(folder),
            ]
            subprocess.run([sys.executable, "-m", "pip", "install", *options, EVERY_EVAL_EVER], check=True)
            (folder / "complete").touch()
    return folder


def read_back(python: Path, reader: str, exports: Sequence[Path], path: Path | None = None) -> list[Any]:
    """What another project's code, run by a Python that has it, read from each export."""
    with tempfile.TemporaryDirectory(prefix="harness-readers-") as scratch:
        out = Path(scratch) / "read.json"
        variables = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": scratch,
            **({"PYTHONPATH": str(path)} if path else {}),
        }
        command = [str(python), str(READERS / f"{reader}_reader.py"), str(out), *map(str, exports)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        assert ended.returncode == 0, f"{reader}:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}"
        found: list[Any] = json.loads(out.read_bytes())
    return found


# Comparing ----------------------------------------------------------------------------------


def shares(points: float | None) -> float | None:
    return None if points is None else points / 100


def keyed(samples: Sequence[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    found = {(one["question"], one["draw"]): one for one in samples}
    assert len(found) == len(samples)
    return found


def same(read: object, own: object, what: str) -> None:
    assert read == own, f"{what}: read {read!r:.300}, ours {own!r:.300}"


def texts(own: Generation, gated: bool) -> tuple[str, str, str, str]:
    return ("", "", "", "") if gated else (own.prompt, own.text, own.answer, own.reasoning)


def compare_lighteval(found: list[dict[str, Any]], mine: dict[str, Ours]) -> int:
    """Compares every score, count, verdict and text; returns the rows that were compared."""
    (read,) = found
    rows = 0
    for name, own in mine.items():
        values, entry = read["results"]["results"][f"harness:{name}|0"], own.entry
        whole = not entry["ungraded"] and not entry["not_a_score"]
        same(values.get("avg@n"), shares(entry["measured"]) if whole else None, f"{name} score")
        if entry["ungraded"]:
            bounds = [values["lowest:avg@n"], values["highest:avg@n"]]
            same(bounds, [shares(entry["lowest"]), shares(entry["highest"])], f"{name} bounds")
        elif not whole:
            same(values["not_a_score:avg@n"], shares(entry["measured"]), f"{name} of a limited run")
        same([values[n] for n in COUNTS], [entry[n] for n in COUNTS], f"{name} counts")
        samples = keyed(read["details"][f"harness:{name}|0"])
        same(set(samples), own.keys, f"{name} rows")
        for key, sample in samples.items():
            compare_detail(name, sample, own.generations[key], own.grades[key])
        rows += len(samples)
    return rows


COUNTS = ("truncated", "no_answer", "ungraded")


def compare_detail(name: str, sample: dict[str, Any], row: Generation, grade: Grade) -> None:
    told = (sample["prompt"], sample["text"], sample["answer"], sample["reasoning"] or "")
    same(told, texts(row, name == GATED), f"{name} texts")
    same(
        sample["metric"],
        {"avg@n": number(grade.correct), "lenient@n": number(grade.lenient)},
        f"{name} verdict",
    )
    same(sample["tokens"], [row.prompt_tokens, row.completion_tokens], f"{name} tokens")
    same((sample["finish_reason"], sample["extracted"]), (row.finish_reason, grade.extracted), f"{name} end")


def number(verdict: bool | None) -> float | None:
    return None if verdict is None else float(verdict)


STOPPED = {"stop": "stop", "length": "max_tokens", "other": "unknown"}


def compare_inspect(found: list[dict[str, Any]], mine: dict[str, Ours]) -> int:
    same({log["task"] for log in found}, set(mine), "logs")
    for log in found:
        name, own = log["task"], mine[log["task"]]
        compare_log(log, own.entry)
        samples = keyed(log["samples"])
        same(set(samples), own.keys, f"{name} rows")
        for key, sample in samples.items():
            compare_sample(name, sample, own, key)
    return sum(len(log["samples"]) for log in found)


def compare_log(log: dict[str, Any], entry: dict[str, Any]) -> None:
    strict, lenient = log["scores"]["strict"], log["scores"]["lenient"]
    whole = not entry["ungraded"] and not entry["not_a_score"]
    same(strict.get("accuracy"), shares(entry["measured"]) if whole else None, "score")
    same(strict.get("stderr"), shares(entry["se_rerun"]) if whole else None, "standard error")
    same(lenient.get("accuracy"), shares(entry["lenient"]) if whole else None, "lenient score")
    if entry["ungraded"]:
        bounds = [strict["lowest"], strict["highest"]]
        same(bounds, [shares(entry["lowest"]), shares(entry["highest"])], "bounds")
    rows = entry["questions"] * entry["draws"]
    same(log["counts"], [rows, rows - entry["ungraded"]], "counts")
    same(log["epochs"], entry["draws"], "epochs")
    same(log["usage"], [sum(one["tokens"][place] for one in log["samples"]) for place in (0, 1)], "tokens")
    same(log["limit"] is not None, bool(entry["not_a_score"]), "limit")


def compare_sample(name: str, sample: dict[str, Any], own: Ours, key: Key) -> None:
    row, grade = own.generations[key], own.grades[key]
    prompt, _, answer, reasoning = texts(row, name == GATED)
    told = (sample["prompt"], sample["answer"], sample["reasoning"])
    same(told, (prompt, answer, reasoning), f"{name} texts")
    same(sample["roles"][0], "system" if own.system else "user", f"{name} roles")
    same(sample["tokens"], [row.prompt_tokens, row.completion_tokens], f"{name} tokens")
    same(sample["stop"], STOPPED[row.finish_reason], f"{name} stop")
    if grade.correct is None:
        same((sample["error"], sample["scores"]), (grade.reason, {}), f"{name} ungraded")
        return
    verdicts = {"strict": grade.correct} | ({} if grade.lenient is None else {"lenient": grade.lenient})
    same(sample["scores"], {n: "C" if verdict else "I" for n, verdict in verdicts.items()}, f"{name} verdict")
    same((sample["error"], sample["extracted"]), (None, grade.extracted), f"{name} extracted")


def compare_every_eval_ever(found: list[dict[str, Any]], mine: dict[str, Ours]) -> int:
    same({one["benchmark"] for one in found}, set(mine), "files")
    for one in found:
        name, own = one["benchmark"], mine[one["benchmark"]]
        same(one["score"], shares(own.entry["measured"]), f"{name} score")
        same(one["standard_error"], shares(own.entry["se_rerun"]), f"{name} standard error")
        samples = keyed(one["samples"])
        same(set(samples), own.keys, f"{name} rows")
        for key, sample in samples.items():
            row, grade = own.generations[key], own.grades[key]
            prompt, text, _, reasoning = texts(row, name == GATED)
            told = (sample["prompt"], sample["text"], sample["reasoning"])
            same(told, (prompt, text, reasoning), f"{name} texts")
            same(
                (sample["correct"], sample["score"]),
                (grade.correct, number(grade.correct)),
                f"{name} verdict",
            )
            same(sample["tokens"], [row.prompt_tokens, row.completion_tokens], f"{name} tokens")
            same(
                (sample["finish_reason"], sample["extracted"]),
                (row.finish_reason, grade.extracted),
                f"{name} end",
            )
    return sum(len(one["samples"]) for one in found)


def compare_hub(export: Path, mine: dict[str, Ours], tasks: dict[str, tuple[str, str]]) -> int:
    """huggingface_hub's own parser on each file."""
    found = {}
    for file in export.glob("*/.eval_results/*.yaml"):
        (entry,) = parse_eval_result_entries(yaml.safe_load(file.read_text()))
        found[file.stem] = entry
    same(set(found), set(tasks), "files")
    for name, entry in found.items():
        same((entry.dataset_id, entry.task_id), tasks[name], f"{name} task")
        same(entry.value, round(mine[name].entry["measured"], 2), f"{name} score")
        assert entry.notes.startswith(f"avg@{mine[name].entry['draws']}")
    return len(found)


def compare_csv(export: Path, mine: dict[str, Ours], read: Reader) -> int:
    scores = {line["benchmark"]: line for line in read(export / "scores.csv")}
    same(set(scores), set(mine), "scores")
    for name, line in scores.items():
        for column in ("measured", "lenient", "lowest", "highest", "se_rerun", "se_questions"):
            same(line[column], cell(mine[name].entry[column]), f"{name} {column}")
        same([line[n] for n in COUNTS], [str(mine[name].entry[n]) for n in COUNTS], f"{name} counts")
    lines = read(export / "samples.csv")
    for line in lines:
        own, key = mine[line["benchmark"]], (line["question"], int(line["draw"]))
        row, grade = own.generations[key], own.grades[key]
        same((line["correct"], line["lenient"]), (cell(grade.correct), cell(grade.lenient)), "verdicts")
        same(unquoted(line["extracted"]), grade.extracted or "", "extracted")
        tokens = [line["prompt_tokens"], line["completion_tokens"]]
        same(tokens, [str(row.prompt_tokens), str(row.completion_tokens)], "tokens")
    same(len(lines), sum(len(own.grades) for own in mine.values()), "rows")
    return len(lines)


def cell(value: Any) -> str:
    return "" if value is None else json.dumps(value)


def unquoted(text: str) -> str:
    return text.removeprefix("'")


def by_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def by_pandas(file: Path) -> list[dict[str, str]]:
    import pandas

    return pandas.read_csv(file, dtype=str, keep_default_na=False).to_dict("records")
