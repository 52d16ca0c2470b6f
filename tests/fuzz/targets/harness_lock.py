"""harness.lock: which commits and rows a machine once took."""

from harness.errors import HarnessError
from harness.hub import Lock
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'{"a/b":{', b'"revision":"0123456789abcdef0123456789abcdef01234567"', b'"files of c":[',
    b'"rows of n":{', b'"q":"0"', b"}}", b"null", b"[]", b"{}", b'"a/b":', b"NaN", b"\xef\xbb\xbf", b"9" * 40,
    b"\\ud800",
)  # fmt: skip


def read(data: bytes) -> None:
    path = folder() / "harness.lock"
    path.write_bytes(data)
    lock = Lock(path)
    revision, files = lock.revision("a/b"), lock.files("a/b", "c")
    assert revision is None or isinstance(revision, str)
    assert files is None or all(isinstance(name, str) for name in files)
    lock.check_rows("a/b", "n", {"q": "0"})
