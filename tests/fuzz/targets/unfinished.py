"""Half-heard responses that an interrupted run left."""

from harness.errors import HarnessError
from harness.unfinished import interrupted, told
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'{"question":"', b'","draw":', b',"seed":', b',"sampling":{"temperature":1.0,"max_tokens":5}', b"}\n",
    b"\xff", b"\\ud800", b"<think>",
)  # fmt: skip


def read(data: bytes) -> None:
    home = folder()
    (home / "unfinished").mkdir(exist_ok=True)
    (home / "unfinished" / "000").write_bytes(data)
    told(interrupted(home, frozenset()), home)
    for path in (home / "interrupted").glob("*"):
        path.unlink()
