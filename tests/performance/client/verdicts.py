"""What the acceptance checks hold our figures to, and the words for it."""

from dataclasses import dataclass

from tests.performance.client.measure import MIB, Command, Compared
from tests.performance.client.told import peak, seconds

FASTER = 5.0  # times the best peer's speed
LIGHTER = 3.0  # times less peak memory than the best peer
AT_ONCE_SHARE, LATENCIES_SHARE = 80.0, 98.0  # percent of the bare loop's generations a second


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether one line holds, and the line."""

    holds: bool
    line: str

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}: {self.line}"


def share_verdict(name: str, found: Compared, wanted: float) -> Verdict:
    return Verdict(
        holds=found.share >= wanted and found.same_work,
        line=f"{name}: {found.share:.1f} % of the bare loop's generations/s (wanted: {wanted:.0f} %)"
        + ("" if found.same_work else "; the two did not ask for the same"),
    )


def peer_verdicts(name: str, found: dict[str, list[Command]]) -> list[Verdict]:
    """Ours against the fastest peer, and a failing line for each peer that was chosen and did not finish: it
    may have been the fastest. lm-eval counts although its draws are one text: that is less work."""
    ours = found["harness"]
    chosen = {peer: runs for peer, runs in found.items() if peer not in ("bare", "harness")}
    peers = {peer: runs for peer, runs in chosen.items() if runs}
    faults = sorted({fault for each in ours for fault in each.faults}) if ours else ["failed"]
    done = [Verdict(holds=not faults, line=f"{name}: ours {', '.join(faults) or 'did the whole work'}")]
    done += [
        Verdict(holds=False, line=f"{name}: {peer} failed, so that the best peer is not known")
        for peer in chosen
        if peer not in peers
    ]
    if not peers or not ours:
        return [*done, Verdict(holds=False, line=f"{name}: there is no ratio without ours and a peer")]
    best = min(peers, key=lambda peer: seconds(peers[peer]))
    faster, lighter = seconds(peers[best]) / seconds(ours), peak(peers[best]) / peak(ours)
    return [
        *done,
        Verdict(
            holds=faster >= FASTER,
            line=f"{name}: {faster:.1f} times faster than {best}, the best of {len(peers)} peers "
            f"({seconds(ours):.1f} s, {seconds(peers[best]):.1f} s; wanted: {FASTER:.0f})",
        ),
        Verdict(
            holds=lighter >= LIGHTER,
            line=f"{name}: {best} takes {lighter:.1f} times our peak memory ({peak(ours) / MIB:.0f} MiB, "
            f"{peak(peers[best]) / MIB:.0f} MiB; wanted: {LIGHTER:.0f})",
        ),
    ]
