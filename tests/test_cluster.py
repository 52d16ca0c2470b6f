"""Replicas and grading on the nodes of a real Ray cluster: two raylets here, a third that dies."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.micro import micro_code, micro_math
from harness.cluster import ClusterGraders, connected, gpus_each, replicas_wanted, spans_nodes
from harness.endpoint import Endpoint
from harness.engines.vllm import vllm
from harness.errors import SandboxError, ServerError, UsageError
from harness.evaluate import grade_one
from harness.gate import knows
from harness.generate import Pace, generate
from harness.machine import ClusterSettings, EngineSettings, Machine, load_machine
from harness.rows import keys_of, read_rows
from harness.sandboxes import open_sandbox
from harness.serve import ServerPool
from harness.types import Generation, Question
from tests.fakes.engine import WARM, FakeEngine, FakeFixedEngine, checkpoint, request
from tests.fakes.ray_nodes import MARK, Nodes, left_of, ray_nodes
from tests.test_serve import gone, written_pids

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes(2) as nodes:
        ray = connected(nodes.address)
        try:
            nodes.joined(2)
            yield nodes
        finally:  # left connected to a cluster that is gone, Ray ends this process
            ray.shutdown()


def machine_of(nodes: Nodes, **settings: int) -> Machine:
    return Machine(gpus=0, cluster=ClusterSettings(address=nodes.address, **settings))


@pytest.fixture
def machine(nodes: Nodes) -> Machine:
    return machine_of(nodes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model")


def status(endpoint: Endpoint, path: str, key: str) -> int:
    asked = urllib.request.Request(f"{endpoint.base_url}{path}", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def command_lines() -> bytes:
    found = b""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found += (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def test_each_node_serves_a_replica_to_whoever_knows_the_key(
    machine: Machine, model: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    with ServerPool(machine) as pool:
        endpoint = pool.acquire(FakeFixedEngine(), model, "a/b", WARM, logs / "s.log")
        assert sorted(each.base_url.split(":")[1] for each in endpoint.servers) == [
            "//127.0.0.2",
            "//127.0.0.3",
        ]
        for each in endpoint.servers:
            assert each.sampling is not None
            assert each.fingerprint == endpoint.fingerprint
            assert status(each, "/models", endpoint.api_key) == 200
            assert status(each, "/models", "guessed") == 401
            assert each.server is not None
            assert "fake server on port" in each.server.tail()
        assert endpoint.api_key not in repr(endpoint)
        assert endpoint.api_key.encode() not in command_lines()
        assert all(endpoint.api_key not in log.read_text() for log in logs.iterdir())
        assert pool.acquire(FakeFixedEngine(), model, "a/b", WARM, logs / "s.log") == endpoint


@pytest.mark.parametrize(
    ("head", "knowing"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nauthorization:Bearer k\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"GET /Authorization: Bearer k HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer kk\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer k\r\nAuthorization: Bearer x\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer \r\n\r\n", False),
    ],
)
def test_a_gate_lets_through_by_the_header_alone(head: bytes, knowing: bool) -> None:
    assert knows(head, "k") is knowing


def test_a_lost_node_costs_its_unfinished_requests_and_one_that_comes_is_taken(
    nodes: Nodes, machine: Machine, model: Path, tmp_path: Path
) -> None:
    nodes.add()
    nodes.joined(3)
    engine = FakeEngine(switches=("--delay", "0.2", "--child"))
    rows, calm = tmp_path / "rows" / "generations.jsonl", tmp_path / "calm" / "generations.jsonl"
    asked = [request(f"q{number}") for number in range(150)]
    said: list[str] = []
    grading = replace(machine, cluster=replace(machine.cluster, grading_workers=1))
    with ServerPool(machine, said.append) as pool, ClusterGraders(grading, said.append) as graders:
        endpoint = pool.acquire(engine, model, "m", WARM, tmp_path / "logs" / "s.log")
        assert len(endpoint.servers) == 3

        def killing() -> Iterator[object]:
            for number, each in enumerate(asked):
                if number == 60:
                    nodes.nodes[-1].kill()
                elif number > 60 and not any("a server is lost" in text for text in said):
                    time.sleep(0.1)  # on a busy machine a raylet is missed late: work must be left until then
                yield each

        generate(killing(), endpoint, rows, pace=Pace(requests=8), say=said.append)  # type: ignore[arg-type]
        assert [text for text in said if "a server is lost, 2 left" in text and "127.0.0.4" in text]
        lost = [each.server for each in endpoint.servers if "127.0.0.4" in each.base_url]
        assert lost[0] is not None
        with pytest.raises(ServerError, match=r"is (gone|lost)(.|\n)*fake server on port"):
            lost[0].check()
        assert not nodes.nodes[-1].left(seconds=30)
        assert [graders.submit(abs, -each).result() for each in range(6)] == [*range(6)]
        assert "a grading worker on 127.0.0.4 is lost, 2 are there" in said
        generate(iter(asked), pool.acquire(engine, model, "m", WARM, tmp_path / "logs" / "s.log"), calm)
        texts = [{row.question: row.text for row in read_rows(each, Generation)} for each in (rows, calm)]
        assert texts[0] == texts[1]
        assert len(keys_of(rows)) == len(asked)
        nodes.joined(2)
        nodes.add()
        nodes.joined(3)
        again = pool.acquire(engine, model, "m", WARM, tmp_path / "logs" / "s.log")
        assert {each.base_url.split(":")[1] for each in again.servers} >= {"//127.0.0.2", "//127.0.0.3"}
        assert len(again.servers) == 3
        assert pool.started == 1
    nodes.nodes[-1].end()


def test_a_server_that_dies_on_its_node_is_noticed_and_started_again(
    machine: Machine, model: Path, tmp_path: Path
) -> None:
    machine = replace(machine, cluster=replace(machine.cluster, replicas=1))
    engine = FakeEngine(switches=("--pids", str(tmp_path / "pids")))
    with ServerPool(machine) as pool:
        endpoint = pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
        os.kill(written_pids(tmp_path / "pids")[0], signal.SIGKILL)
        with pytest.raises(ServerError, match="died with exit code 137"):
            generate((request(f"q{number}") for number in range(9)), endpoint, tmp_path / "generations.jsonl")
        assert pool.acquire(engine, model, "m", WARM, tmp_path / "s.log").server is not endpoint.server


HARNESS = """
import signal, sys, time
from pathlib import Path
from harness.machine import ClusterSettings, Machine
from harness.serve import ServerPool
from tests.fakes.engine import WARM, FakeEngine
folder = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)
with ServerPool(Machine(gpus=0, cluster=ClusterSettings(address=sys.argv[2], replicas=1))) as pool:
    engine = FakeEngine(switches=("--child", "--pids", str(folder / "pids")))
    pool.acquire(engine, folder / "model", "m", WARM, folder / "s.log")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_on_any_node_outlives_a_harness_that_is_killed(
    how: signal.Signals, nodes: Nodes, model: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path), nodes.address],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "ready\n" in process.stdout  # Ray may have said something before of nodes of other tests
    servers = written_pids(tmp_path / "pids")
    process.send_signal(how)
    process.wait()
    assert gone(servers)


def rows(questions: list[Question], texts: tuple[str, ...]) -> Iterator[tuple[Question, Generation]]:
    for question in questions:
        for draw, text in enumerate(texts):
            yield (
                question,
                Generation(
                    question=question.id,
                    draw=draw,
                    prompt="",
                    text=text,
                    reasoning="",
                    answer=text,
                    finish_reason="stop",
                    prompt_tokens=1,
                    completion_tokens=1,
                    latency=0.0,
                    seed=0,
                    sampling=WARM,
                    request_id="",
                    model="m",
                    engine="fake",
                ),
            )


def test_verdicts_of_the_nodes_are_those_of_this_computer(machine: Machine) -> None:
    machine = replace(machine, cluster=replace(machine.cluster, grading_workers=1))
    programs = ("```python\nprint(sum(map(int, input().split())))\n```", "```python\n1 / 0\n```", "no code")
    code = list(rows(micro_code.load(None)[:2], programs))
    maths = list(rows(micro_math.load(None)[:2], ("\\boxed{7}", "7", "")))
    sandbox = open_sandbox(machine, print)
    with ClusterGraders(machine, print) as graders:
        assert graders.workers == 2
        begun = [graders.submit(grade_one, micro_code, *row, graders.sandbox) for row in code]
        begun += [graders.submit(grade_one, micro_math, *row, None) for row in maths]
        found = [each.result() for each in begun]
    here = [grade_one(micro_code, *row, sandbox) for row in code]
    here += [grade_one(micro_math, *row, None) for row in maths]
    sandbox.close()
    assert found == here


def refuse(reason: str) -> None:
    raise SandboxError(reason)


def test_an_error_of_a_node_arrives_as_it_was_raised_and_a_call_that_kills_ends_no_other(
    nodes: Nodes,
) -> None:
    said: list[str] = []
    with ClusterGraders(machine_of(nodes, grading_workers=1), said.append) as graders:
        with pytest.raises(SandboxError, match="it broke"):
            graders.submit(refuse, "it broke").result()
        with pytest.raises(SandboxError, match="2 grading workers died of one call"):
            graders.submit(os._exit, 3).result()
        assert [text for text in said if text.endswith("is lost, 2 are there")] == said
        assert [graders.submit(abs, -each).result() for each in range(4)] == [0, 1, 2, 3]


def test_a_cluster_without_room_says_what_is_free_and_what_to_change(
    nodes: Nodes, model: Path, tmp_path: Path
) -> None:
    with (
        ServerPool(machine_of(nodes, gpus=8, replicas=2)) as pool,
        pytest.raises(ServerError, match=r"no room for 2 replicas(.|\n)*8 GPUs(.|\n)*of 0 GPUs(.|\n)*lower"),
    ):
        pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "s.log")


def test_a_node_that_cannot_serve_says_which_one_and_why(
    machine: Machine, model: Path, tmp_path: Path
) -> None:
    with ServerPool(replace(machine, environments=tmp_path)) as pool:
        with pytest.raises(
            UsageError, match=r"on node .*127\.0\.0\.\d.*vllm is not set up\nrun: harness setup"
        ):
            pool.acquire(vllm, model, "m", WARM, tmp_path / "s.log")
        with pytest.raises(ServerError, match=r"on node .*exit code 1(.|\n)*not enough memory"):
            pool.acquire(FakeEngine(switches=("--refuse-to-start",)), model, "m", WARM, tmp_path / "s.log")
        with pytest.raises(ServerError, match=r"on node .*elsewhere is not there\n.*share"):
            pool.acquire(FakeEngine(), tmp_path / "elsewhere", "m", WARM, tmp_path / "s.log")


def test_no_cluster_at_the_address_is_an_error_at_once() -> None:
    script = "from harness.cluster import connected\nconnected('127.0.0.1:9')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (
        "ServerError: no Ray cluster that this computer is a node of answers at '127.0.0.1:9'" in done.stderr
    )


def test_without_ray_the_error_says_what_to_install(tmp_path: Path) -> None:
    packages = Path(pytest.__file__).parents[1]
    for entry in packages.iterdir():
        if entry.name != "ray":
            (tmp_path / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from harness.cluster import connected\nconnected('auto')"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Ray is missing\npip install 'dasd-harness[cluster]'" in done.stderr


def node(gpus: int) -> dict[str, object]:
    return {"Alive": True, "Resources": {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}}


@pytest.mark.parametrize(
    ("arguments", "settings", "gpus", "replicas"),
    [
        ((), {}, 1, 12),
        (("--tensor-parallel-size", "4"), {}, 4, 3),
        ((), {"gpus": 8}, 8, 1),
        ((), {"gpus": 3}, 3, 3),
        ((), {"replicas": 5}, 1, 5),
        (("--tensor-parallel-size", "12", "--distributed-executor-backend", "ray"), {}, 0, 1),
    ],
)
def test_a_replica_takes_its_tensor_parallelism_and_never_gpus_of_two_nodes(
    arguments: tuple[str, ...], settings: dict[str, int], gpus: int, replicas: int
) -> None:
    machine = Machine(
        cluster=ClusterSettings(address="auto", **settings),
        engines={"vllm": EngineSettings(arguments=arguments)},
    )
    there = [node(8), node(4), node(0)]
    assert gpus_each(vllm, machine, there) == gpus
    assert replicas_wanted(machine, gpus, spans_nodes(vllm, machine), there) == replicas


def test_nodes_without_gpus_serve_a_replica_each() -> None:
    machine = Machine(cluster=ClusterSettings(address="auto"))
    assert gpus_each(vllm, machine, [node(0), node(0)]) == 0
    assert replicas_wanted(machine, 0, False, [node(0), node(0)]) == 2


SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do
    [[ "$1" == --nodelist=* ]] && export NODE="${1#--nodelist=}"
    shift
done
"$@" &
child=$!
trap 'kill $child' TERM
wait
wait
"""
RAY = """#!/usr/bin/env bash
exec BIN/ray "$@" --node-ip-address="$NODE" --object-store-memory=80000000 --num-cpus=1 --num-gpus=0
"""
PYTHON = """#!/usr/bin/env bash
exec BIN/python "$@"
"""
HARNESS_STANDIN = """#!/usr/bin/env bash
echo "asked for $*"
exec BIN/python -c '
from harness.cluster import connected, living
print("nodes:", sorted(node["NodeManagerAddress"] for node in living(connected("auto"))))
raise SystemExit(3)'
"""


def test_the_slurm_script_runs_the_harness_on_ray_with_all_nodes_and_leaves_nothing(tmp_path: Path) -> None:
    """Slurm itself is stood in for: `srun` runs its command here, at the node's loopback address."""
    programs = {"srun": SRUN, "ray": RAY, "python": PYTHON, "harness": HARNESS_STANDIN}
    programs["scontrol"] = "#!/usr/bin/env bash\nprintf '127.0.0.2\\n127.0.0.3\\n'\n"
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text.replace("BIN", str(Path(sys.executable).parent)))
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": str(os.getpid()), "SLURM_SUBMIT_DIR": str(ROOT)}
    done = subprocess.run(
        [ROOT / "docs" / "cluster" / "harness.sbatch", "plan", "dasd-micro"],
        env={
            **os.environ,
            **slurm,
            "HARNESS_VENV": str(tmp_path),
            MARK: str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "2 of 2 nodes are there" in done.stdout, done.stderr
    assert "asked for plan dasd-micro\nnodes: ['127.0.0.2', '127.0.0.3']" in done.stdout
    assert done.returncode == 3
    assert not left_of(str(tmp_path), seconds=20)


def test_a_misspelt_setting_of_the_cluster_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('[cluster]\naddress = "auto"\nreplicas = 2\n')
    assert load_machine(file).cluster == ClusterSettings(address="auto", replicas=2)
    file.write_text('[cluster]\naddress = "auto"\nreplica = 2\n')
    with pytest.raises(UsageError, match=r"unknown setting 'cluster\.replica'"):
        load_machine(file)
