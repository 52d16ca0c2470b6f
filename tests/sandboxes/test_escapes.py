"""Programs that try to get out, to harm, to cheat, or to spoil the next program."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from harness.grading.code import CodeTest, grade_program
from harness.sandboxes import Limits, Outcome, Program, Sandbox, open_sandbox
from tests.sandboxes.conftest import settings

QUICK = Limits(seconds=2)


def run(sandbox: Sandbox, code: str, limits: Limits = QUICK) -> Outcome:
    return sandbox.run(Program(code=code), ["3\n"], limits).outcomes[0]


def still_works(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "print(int(input()) + 1)")
    assert (outcome.status, outcome.output) == ("ok", "4\n")


def test_network_is_unreachable(sandbox: Sandbox) -> None:
    code = """
import socket
print([name for _, name in socket.if_nameindex()])
for address in ("1.1.1.1", "127.0.0.1", "172.17.0.1"):
    try:
        socket.create_connection((address, 53), timeout=1)
        print("connected", address)
    except OSError:
        pass
try:
    print(socket.getaddrinfo("example.com", 80))
except OSError:
    pass
"""
    assert run(sandbox, code, Limits(seconds=20)).output == "['lo']\n"


def test_host_files_cannot_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("expected outputs")
    for path in (secret, Path(__file__), Path("/root"), Path("/var/run/docker.sock")):
        code = f"import os\ntry:\n    print(open({str(path)!r}).read())\nexcept OSError:\n    print('no')"
        assert run(sandbox, code).output == "no\n"


def test_only_tmp_is_writable_and_it_is_small(sandbox: Sandbox) -> None:
    code = """
import os
for folder in "/ /usr /opt/packages /etc /dev /dev/shm /var /run /proc/self /python".split():
    try:
        open(folder + "/probe", "w")
        print("wrote", folder)
    except OSError:
        pass
written = 0
try:
    with open("/tmp/big", "wb") as file:
        while True:
            written += file.write(bytes(2**20))
            file.flush()
except OSError as error:
    print(error.errno, written <= 2**26)
"""
    assert run(sandbox, code).output == "28 True\n"
    assert run(sandbox, "import os\nprint(os.listdir('/tmp'))").output == "[]\n"


def test_program_is_nobody_and_holds_no_capability(sandbox: Sandbox) -> None:
    code = """
import os
print(os.getuid() > 0, os.getgid() > 0)
for line in open("/proc/self/status"):
    if line.startswith(("CapPrm", "CapEff", "CapAmb", "NoNewPrivs")):
        print(int(line.split()[1], 16), end=" ")
"""
    assert run(sandbox, code).output == "True True\n0 0 0 1 "


def test_expected_outputs_are_nowhere_in_the_programs_memory(sandbox: Sandbox) -> None:
    given, expected = (f"needle-{secrets.token_hex(16)}" for _ in range(2))
    code = """
import re
found = set()
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in maps:
        span, allowed = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        try:
            memory.seek(start)
            found |= set(re.findall(rb"needle-[0-9a-f]{32}", memory.read(end - start)))
        except (OSError, OverflowError, ValueError):
            pass
print(*(needle.decode() for needle in found))
"""
    verdict = grade_program(code, [CodeTest(input=given, output=expected)], None, sandbox, Limits(seconds=30))
    assert (verdict.passed, verdict.message) == (False, "wrong answer")
    outcome = sandbox.run(Program(code=code), [given], Limits(seconds=30)).outcomes[0]
    assert outcome.output == given + "\n"


def test_guest_can_be_neither_killed_nor_read_nor_traced(sandbox: Sandbox) -> None:
    code = """
import ctypes, os, posix, signal
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
    ctypes.CDLL(None).kill(1, number)
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/fd/0"):
    try:
        open(path, "rb")
        print("opened", path)
    except OSError:
        pass
try:
    print(os.listdir("/proc/1/fd"))
except OSError:
    pass
print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))
"""
    assert run(sandbox, code).output == "-1\n"
    still_works(sandbox)


def test_killing_everything_in_reach_spoils_nothing(sandbox: Sandbox) -> None:
    run(sandbox, "import posix\nposix.kill(-1, 9)\nposix.kill(posix.getppid(), 9)")
    still_works(sandbox)


def test_fork_bomb_is_ended_with_all_its_children(sandbox: Sandbox) -> None:
    code = "import posix\nwhile True:\n    try:\n        posix.fork()\n    except OSError:\n        pass"
    assert run(sandbox, code, Limits(seconds=1)).status in ("time_limit", "crash")
    still_works(sandbox)


def test_memory_hog_is_named_out_of_memory(sandbox: Sandbox) -> None:
    hog = "kept = []\nwhile True:\n    kept.append(bytearray(10**7))"
    assert run(sandbox, hog, Limits(seconds=20)).status == "out_of_memory"
    still_works(sandbox)


def test_endless_output_is_ended_and_named(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "while True:\n    print('x' * 10**6)", Limits(seconds=20))
    assert outcome.status == "out_of_memory"
    assert run(sandbox, "print('x' * (70 * 2**20))", Limits(seconds=20)).status == "output_limit"
    still_works(sandbox)


def test_endless_loop_is_a_time_limit(sandbox: Sandbox) -> None:
    assert run(sandbox, "while True: pass", Limits(seconds=1)).status == "time_limit"


def test_swallowed_alarm_ends_at_the_limit_of_the_whole_program(sandbox: Sandbox) -> None:
    code = "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass"
    outcome = run(sandbox, code, Limits(seconds=0.1))
    assert (outcome.status, outcome.message) == ("crash", "ran past the limit of the whole program")


def test_leaving_without_an_answer_is_a_crash(sandbox: Sandbox) -> None:
    for code in ("import os\nos._exit(0)", "raise KeyboardInterrupt", "import os\nos.abort()"):
        assert run(sandbox, code).status == "crash"
    still_works(sandbox)


def test_frames_written_by_the_program_cannot_make_it_right(sandbox: Sandbox) -> None:
    forged = """
import json, os, struct
good = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
good = struct.pack(">II", len(good), 1) + good + b"4"
end = json.dumps({"exit": 0, "reason": "end", "out_of_memory": False, "dirty": ""}).encode()
for fd in range(256):
    for kind in (b"O", b"E", b"H"):
        try:
            size = struct.pack(">I", len(good))
            os.write(fd, kind + size + good + b"E" + struct.pack(">I", len(end)) + end)
        except OSError:
            pass
"""
    tests = [CodeTest(input="3\n", output="4\n"), CodeTest(input="8\n", output="9\n")]
    assert not grade_program(forged, tests, None, sandbox, QUICK).passed
    still_works(sandbox)


def test_forged_outcomes_answer_only_with_what_the_program_knows(sandbox: Sandbox) -> None:
    forged = """
import json, os, struct
head = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
os.write(3, (struct.pack(">II", len(head), 1) + head + b"4") * 5)
os._exit(0)
"""
    tests = [CodeTest(input="3\n", output="4\n"), CodeTest(input="8\n", output="9\n")]
    verdict = grade_program(forged, tests, None, sandbox, QUICK)
    assert verdict.results == [True, -2]


def test_nested_json_bomb_on_the_result_pipe_is_a_crash(sandbox: Sandbox) -> None:
    code = "import os, struct\nos.write(3, struct.pack('>II', 60000, 0) + b'[' * 60000)\nos._exit(0)"
    assert run(sandbox, code).status == "crash"
    assert run(sandbox, "import os\nos.write(3, b'\\xff' * 9)\nos._exit(0)").status == "crash"
    still_works(sandbox)


def test_nothing_in_tmp_reaches_the_next_program(sandbox: Sandbox) -> None:
    code = """
import pathlib, posix
folder = pathlib.Path("/tmp/a/b")
folder.mkdir(parents=True)
(folder / "note").write_text("answers")
posix.symlink("/", "/tmp/link")
posix.chmod("/tmp/a/b", 0)
posix.chmod("/tmp/a", 0)
"""
    assert run(sandbox, code).status == "ok"
    assert run(sandbox, "import os\nprint(os.listdir('/tmp'))").output == "[]\n"


def test_shared_memory_and_priority_do_not_reach_the_next_program(sandbox: Sandbox) -> None:
    leave = "import ctypes, os\nprint(ctypes.CDLL(None).shmget(77, 100, 0o1666))\nprint(os.nice(10))\n"
    leave += "try:\n    os.setpriority(os.PRIO_PROCESS, 1, 10)\nexcept PermissionError:\n    print('no')"
    assert run(sandbox, leave).output == "-1\n10\nno\n"
    look = "import ctypes, os\nprint(ctypes.CDLL(None).shmget(77, 100, 0o666), os.nice(0))"
    assert run(sandbox, look).output == "-1 0\n"


def test_processes_left_behind_are_gone(sandbox: Sandbox) -> None:
    leave = "import posix, time\nif posix.fork() == 0:\n    posix.setsid()\n    time.sleep(60)"
    assert run(sandbox, leave).status == "ok"
    count = "import os\nprint(sum(name.isdigit() for name in os.listdir('/proc')))"
    assert run(sandbox, count).output == "2\n"


def test_each_program_has_a_process_of_its_own_and_its_tests_share_it(sandbox: Sandbox) -> None:
    code = "import builtins\nbuiltins.seen = getattr(builtins, 'seen', 0) + 1\nprint(builtins.seen)"
    for _ in range(2):
        outcomes = sandbox.run(Program(code=code), ["", ""], QUICK).outcomes
        assert [outcome.output for outcome in outcomes] == ["1\n", "2\n"]


def test_a_refused_outcome_stops_the_program(sandbox: Sandbox) -> None:
    code = "n = int(input())\nwhile n == 2: pass\nprint(n)"
    execution = sandbox.run(
        Program(code=code), ["0", "1", "2"], Limits(seconds=30), lambda index, outcome: index < 1
    )
    assert [outcome.output for outcome in execution.outcomes] == ["0\n", "1\n"]


def test_more_threads_than_workers_get_their_own_answers(sandbox: Sandbox) -> None:
    barrier = threading.Barrier(4)

    def ask(number: int) -> str:
        barrier.wait()
        return sandbox.run(Program(code="print(input())"), [str(number)], QUICK).outcomes[0].output

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == [f"{number}\n" for number in range(4)]


def test_official_packages_are_there_and_no_others(sandbox: Sandbox) -> None:
    code = """
import numpy, scipy, sympy, networkx, pandas
for module in (numpy, scipy, sympy, networkx, pandas):
    print(module.__version__)
try:
    import sortedcontainers
except ImportError:
    print("absent")
"""
    outcome = run(sandbox, code, Limits(seconds=60))
    assert outcome.output.split() == ["2.2.5", "1.15.2", "1.13.1", "3.4.2", "2.2.3", "absent"]


def test_a_fork_bomb_leaves_its_processes_to_another_sandbox(sandbox: Sandbox) -> None:
    bomb = (
        "import posix, time\nfor _ in range(100):\n    try:\n        posix.fork() or time.sleep(60)\n"
        "    except OSError:\n        pass\ntime.sleep(60)"
    )
    threads = (
        "import threading, time\neach = [threading.Thread(target=time.sleep, args=(0.1,)) "
        "for _ in range(8)]\nfor thread in each:\n    thread.start()\nprint(len(each))"
    )
    with closing(open_sandbox(settings(sandbox.name), print)) as other, ThreadPoolExecutor(1) as beside:
        assert run(other, "print(1)").status == "ok"
        bombed = beside.submit(run, sandbox, bomb, Limits(seconds=3))
        outcomes = []
        while not bombed.done():
            outcomes.append(run(other, threads, Limits(seconds=30)).output)
        assert set(outcomes) == {"8\n"}
