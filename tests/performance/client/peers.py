"""The four peers: how each is installed, told the work, and asked what it measured.

Each lives in an environment of its own, built once from the versions here, and is set as its users
would set it for speed: as many requests at once as ours, no progress display where it can be turned
off, responses kept in a file as ours are. Their graders here look for the last box and nothing else,
which is the least that any of them can do. All are offline.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks.lighteval_tasks.offline import stand_in
from harness.setup import ENVIRONMENTS, build, interpreter, locked, recorded
from tests.performance.client.served import Mode
from tests.performance.client.work import DRAWS, MODEL, write_questions

TASKS = Path(__file__).with_name("peer_tasks")
HOME = user_cache_path("dasd-harness") / "peers"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a peer is run on: a server, and an empty folder that holds its task file and questions."""

    base_url: str
    folder: Path
    mode: Mode

    @property
    def out(self) -> Path:
        return self.folder / "out"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`command` gets the folder of its programs and the task; `score` reads points (0 to 100) and the
    number of graded responses from what it wrote. `note` is what was set, for the page. `streams` where it
    can ask for streamed answers."""

    name: str
    packages: tuple[str, ...]
    streams: bool = False
    command: Callable[[Path, Task], list[str]]
    score: Callable[[Path, Task], tuple[float, int]]
    note: str

    @property
    def programs(self) -> Path:
        return HOME / self.name / "bin"

    @property
    def version(self) -> str:
        return self.packages[0]


def set_up(peer: Peer, say: Callable[[str], None] = print) -> Path:
    """Builds the peer's environment where it is missing or pinned otherwise; returns its programs."""
    folder, wanted = HOME / peer.name, {"install": list(peer.packages), "remove": []}
    HOME.mkdir(parents=True, exist_ok=True)
    with locked(HOME / f"{peer.name}.lock", peer.name, say):
        if recorded(folder) != wanted:
            build(peer.name, folder, wanted, say)
    if peer is lighteval:
        stand_in(interpreter(folder))
    return peer.programs


def prepare(base_url: str, mode: Mode, folder: Path) -> Task:
    """An empty folder with every peer's task file and the questions."""
    shutil.copytree(TASKS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "questions").mkdir()
    write_questions(folder / "questions" / "questions.jsonl")
    return Task(base_url=base_url, folder=folder, mode=mode)


def environment(task: Task) -> dict[str, str]:
    """Variables for all of them. HOME is the folder: some keep replies below it and would not ask again."""
    return {
        "HOME": str(task.folder),
        "HF_HOME": str(task.folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OPENAI_API_KEY": "none",
        "SPEED_QUESTIONS": str(task.folder / "questions" / "questions.jsonl"),
        "SPEED_SCRATCH": str(task.folder),
        "SPEED_STREAM": "1" if task.mode.stream else "",
        "SPEED_MAX_TOKENS": str(task.mode.max_tokens),
        "LOCAL_BASE_URL": task.base_url,
        "LOCAL_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def only(folder: Path, pattern: str) -> Any:
    """The one JSON file that matches. Raises RuntimeError where there is none or are several."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise RuntimeError(f"{folder} holds {len(found)} files like {pattern}; one is expected")
    return json.loads(found[0].read_bytes())


# lm-eval --------------------------------------------------------------------------------------


def lm_eval_command(programs: Path, task: Task, name: str = "speed") -> list[str]:
    settings = {
        "model": MODEL,
        "base_url": f"{task.base_url}/chat/completions",
        "num_concurrent": task.mode.concurrency,
        "max_retries": 3,
        "tokenizer_backend": None,
    }
    return [
        *(str(programs / "lm_eval"), "run", "--model", "local-chat-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in settings.items())),
        *("--tasks", name, "--include_path", str(task.folder), "--apply_chat_template"),
        *("--gen_kwargs", f"max_gen_toks={task.mode.max_tokens}"),
        *("--log_samples", "--output_path", str(task.out)),
    ]


def lm_eval_score(programs: Path, task: Task) -> tuple[float, int]:
    (found,) = only(task.out, "**/results_*.json")["results"].values()
    values = {name.partition(",")[0]: value for name, value in found.items()}
    return 100 * values["accuracy"], round(values["graded"] * values["sample_len"])


lm_eval = Peer(
    name="lm-eval",
    packages=("lm-eval[api]==0.4.13", "datasets==5.2.0"),
    command=lm_eval_command,
    score=lm_eval_score,
    note="local-chat-completions, num_concurrent, repeats 64 with the filter take_first_k 64 and a "
    "process_results that grades all of them, log_samples",
)

lm_eval_default = replace(
    lm_eval,
    command=lambda programs, task: lm_eval_command(programs, task, "speed_default"),
    note="as its own tasks with repeats are, no filter set: shows how many of the repeats it grades",
)

# lighteval ------------------------------------------------------------------------------------


def lighteval_command(programs: Path, task: Task) -> list[str]:
    sampling = f"{{temperature:1.0,top_p:1.0,max_new_tokens:{task.mode.max_tokens}}}"
    settings = {
        "model_name": f"openai/{MODEL}",
        "base_url": task.base_url,
        "api_key": "none",
        "concurrent_requests": task.mode.concurrency,
        "max_model_length": 131_072,
        "generation_parameters": sampling,
    }
    return [
        *(str(programs / "lighteval"), "endpoint", "litellm"),
        *(",".join(f"{name}={value}" for name, value in settings.items()), "speed"),
        *("--custom-tasks", str(task.folder / "lighteval_speed.py")),
        *("--output-dir", str(task.out), "--save-details"),
    ]


def lighteval_score(programs: Path, task: Task) -> tuple[float, int]:
    found = only(task.out, "results/**/results_*.json")["results"]["speed|0"]
    return 100 * found["accuracy"], 30 * DRAWS


lighteval = Peer(
    name="lighteval",
    packages=ENVIRONMENTS["lighteval"].packages,
    command=lighteval_command,
    score=lighteval_score,
    note="endpoint litellm, concurrent_requests, avg@64: one request with n=64 for each question; an empty "
    "tinyBenchmarks.pkl so that it starts offline, xxhash < 4, HOME in the run's folder so that no reply is "
    "taken from its store, save-details",
)

# Inspect --------------------------------------------------------------------------------------


def inspect_command(programs: Path, task: Task) -> list[str]:
    at_once = str(task.mode.concurrency)
    streamed = ["-M", "stream=true"] if task.mode.stream else []
    return [
        *(str(programs / "inspect"), "eval", "inspect_speed.py", "--model", f"openai-api/local/{MODEL}"),
        *("--epochs", str(DRAWS), "--no-epochs-reducer", "--max-connections", at_once),
        *("--max-samples", at_once, "--max-tokens", str(task.mode.max_tokens)),
        *("--temperature", "1.0", "--top-p", "1.0", "--log-dir", str(task.out)),
        *("--display", "none", "--no-score-display", "--no-log-realtime", "--log-level", "warning"),
        *streamed,
    ]


def inspect_score(programs: Path, task: Task) -> tuple[float, int]:
    (log,) = task.out.glob("*.eval")
    told = subprocess.run(
        [str(programs / "inspect"), "log", "dump", "--header-only", str(log)],
        check=True,
        capture_output=True,
        env={**os.environ, **environment(task)},
    )
    results = json.loads(told.stdout)["results"]
    return 100 * results["scores"][0]["metrics"]["accuracy"]["value"], results["completed_samples"]


inspect_ai = Peer(
    name="inspect-ai",
    packages=("inspect-ai==0.3.285", "openai==3.57.0"),
    streams=True,
    command=inspect_command,
    score=inspect_score,
    note="openai-api provider, epochs 64, max-connections and max-samples, display none, no score display, "
    "no realtime log",
)

# evalscope ------------------------------------------------------------------------------------


def evalscope_command(programs: Path, task: Task) -> list[str]:
    script = task.folder / "evalscope_speed.py"
    return [str(programs / "python"), str(script), task.base_url, str(task.mode.concurrency), str(task.out)]


def evalscope_score(programs: Path, task: Task) -> tuple[float, int]:
    found = json.loads((task.out / "reports" / MODEL / "speed.json").read_bytes())
    (metric,) = found["metrics"]
    return 100 * metric["score"], found["num"]


evalscope = Peer(
    name="evalscope",
    packages=("evalscope==1.14.1", "datasets==4.8.4"),
    streams=True,
    command=evalscope_command,
    score=evalscope_score,
    note="openai_api, eval_batch_size, repeats 64, no performance collection",
)

FASTEST = ("lm-eval", "evalscope")
"""The two that lead in docs/speed.md's table; which of them is the faster changes from run to run."""

PEERS = {each.name: each for each in (lm_eval, lighteval, inspect_ai, evalscope)}


def chosen(default: tuple[str, ...] = FASTEST) -> list[Peer]:
    """The peers that the variable PEERS names ("all", or names with commas), set up."""
    named = os.environ.get("PEERS", "")
    names = tuple(PEERS) if named == "all" else tuple(filter(None, named.split(","))) or default
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"PEERS: no peer is called {min(unknown)!r}; known: {', '.join(PEERS)}")
    for name in names:
        set_up(PEERS[name])
    return [PEERS[name] for name in names]
