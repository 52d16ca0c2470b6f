"""The ten faults: how the server fails, what comes after it, and whether the tool itself is killed."""

from dataclasses import dataclass

from tests.performance.peer_faults.server import MODEL, OTHER, SPELL, STRIKES_AT, How

AWAY = 10.0  # seconds for which a killed server is gone
KILLED_AT = 12  # answers after which the tool is killed


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`how` the server fails; `back_after` so many seconds one takes its place, as the model `back_as`, which
    refuses requests for any other where `strict`."""

    name: str
    title: str
    how: How = ""
    back_after: float = AWAY
    back_as: str = MODEL
    strict: bool = False
    kills_tool: bool = False


NOTHING = Fault(name="nothing", title="no fault")

FAULTS = {
    each.name: each
    for each in (
        Fault(
            name="server-killed",
            title=f"1. server killed at request {STRIKES_AT}, back after {AWAY:.0f} s",
            how="die",
        ),
        Fault(name="hang", title="2. three requests never answered, the server well", how="hang"),
        Fault(name="429-until", title=f"3. 429 with Retry-After for {SPELL:.0f} s", how="busy until"),
        Fault(name="429", title=f"4. 429 without, for {SPELL:.0f} s", how="busy"),
        Fault(name="500s", title=f"5. 500 to everything for {SPELL:.0f} s", how="errors"),
        Fault(name="reset", title="6. three connections reset in the middle of the answer", how="reset"),
        Fault(name="malformed", title="7. three answers of half a JSON object", how="rubbish"),
        Fault(name="empty", title="8. three answers without content (null, null, empty)", how="empty"),
        Fault(
            name="other-model",
            title="9a. server restarted with another model, which answers whoever asks",
            how="other",
            back_after=1.0,
            back_as=OTHER,
        ),
        Fault(
            name="other-model-refused",
            title="9b. the same, and it refuses the old name with 404",
            how="other",
            back_after=1.0,
            back_as=OTHER,
            strict=True,
        ),
        Fault(
            name="tool-killed", title=f"10. the tool killed (-9) after {KILLED_AT} answers", kills_tool=True
        ),
    )
}
