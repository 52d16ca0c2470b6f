"""Whether a server that is back under the same name is made from the same checkpoint."""

from collections.abc import Iterator

import pytest

from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.origin import check_origin, checkpoint_of
from tests.fakes.engine import running

REVISION = "0123456789abcdef0123456789abcdef01234567"
SNAPSHOT = f"/cache/hub/models--Qwen--Qwen3-4B/snapshots/{REVISION}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with running() as found:
        yield found


@pytest.mark.parametrize("again", ["Qwen/Qwen3-4B", "/models/Qwen3-4B", SNAPSHOT, ""])
@pytest.mark.parametrize("first", ["Qwen/Qwen3-4B", "/models/Qwen3-4B", SNAPSHOT])
def test_one_checkpoint_by_another_spelling_is_no_other(endpoint: Endpoint, first: str, again: str) -> None:
    check_origin(checkpoint_of(first), checkpoint_of(again), endpoint)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-8B"),
        (SNAPSHOT, SNAPSHOT.replace(REVISION, REVISION[::-1])),
        ("/runs/stages/sft-1/model", "/runs/stages/sft-2/model"),
    ],
)
def test_another_checkpoint_or_revision_under_the_same_name_is_told(
    endpoint: Endpoint, first: str, again: str
) -> None:
    with pytest.raises(ServerError, match="serves another checkpoint"):
        check_origin(checkpoint_of(first), checkpoint_of(again), endpoint)
