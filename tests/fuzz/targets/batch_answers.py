"""A provider's file of answers, and the record of the files that were looked at.

What stands before the first byte 0xfe is the record, what follows it the answers; without it all is answers.
"""

import msgspec

from harness.batch import COLLECTED, answered, answers, pose, read_line
from harness.client import Refused
from harness.errors import HarnessError
from harness.patience import Transient
from tests.fuzz.answering import ENDPOINT, REQUEST
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'{"custom_id":"', pose(REQUEST, ENDPOINT).custom_id.encode(), b'","response":{"status_code":200,"body":',
    b'{"choices":[{"message":{"content":"', b'"finish_reason":"stop"', b'"model":"m"', b"}]}}}\n",
    b'"error":', b'{"message":"', b"null", b"\xfe", b'["output-1.jsonl ', b"500", b"99999999999999999999",
    b"-1",
)  # fmt: skip


def read(data: bytes) -> None:
    home = folder()
    record, parted, lines = data.rpartition(b"\xfe")
    (home / COLLECTED).unlink(missing_ok=True)
    if parted:
        (home / COLLECTED).write_bytes(record)
    (home / "output-1.jsonl").write_bytes(lines)
    for place in answers(home).places.values():
        try:
            found = answered(REQUEST, read_line(place), ENDPOINT)
        except (Refused, Transient):
            continue
        msgspec.json.encode(found.row)
