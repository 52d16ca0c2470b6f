"""Pictures of a run as inline SVG: response probabilities, classes of sentences, training losses.

Drawn by matplotlib and put into a page as they are: text stays text, colours follow the page's light or
dark scheme through CSS variables (`templates/style.css`), and a title and a description stand for those
who cannot see. The same numbers give the same bytes.

Teacher and student are told apart by colour and by shape: blue, filled and circles for the teacher;
orange, hatched and triangles for the student (the colours are of Okabe and Ito's palette, which
colour-blind people can tell apart).
"""

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from xml.dom import minidom

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Class = Literal["teacher", "student", "shared"]
CLASSES: tuple[Class, ...] = ("teacher", "shared", "student")

# matplotlib draws in these colours; `recoloured` puts the page's own in their places.
INK, PAGE, TEACHER, STUDENT, SHARED = "#010101", "#fefefe", "#0072b2", "#d55e00", "#c9ced6"
COLOURS = {
    INK: "currentColor",
    PAGE: "var(--page, #fff)",
    TEACHER: f"var(--teacher, {TEACHER})",
    STUDENT: f"var(--student, {STUDENT})",
    SHARED: f"var(--shared, {SHARED})",
}
COLOUR_OF: dict[Class, str] = {"teacher": TEACHER, "student": STUDENT, "shared": SHARED}
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What a label may hold, and an XML file may not."""
STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.unicode_minus": False,
    "font.size": 9,
    "hatch.color": PAGE,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
WIDTH = 6.6  # inches
BINS = 40
POINTS = 120  # in a curve of losses
FINER = re.compile(r"(\.\d\d)\d+")  # than a hundredth of a point: half of a picture's bytes
LABELLED = 0.07  # the least share of a bar that has room for its own number


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing as inline SVG. `description` says in words what it shows."""

    title: str
    description: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The shares of the three classes among the sentences of some responses; they add up to 1."""

    label: str
    teacher: float
    shared: float
    student: float

    def of(self, kind: Class) -> float:
        share: float = getattr(self, kind)
        return share


@dataclass(frozen=True, kw_only=True)
class Probabilities:
    """Probabilities under one model, of all candidates and of those kept; between 0 and 1."""

    model: Literal["teacher", "student"]
    candidates: NDArray[np.float64]
    kept: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a training's log. `at` is the optimiser step, or the epoch where that is all it says."""

    at: float
    loss: float
    learning_rate: float | None = None


class Classified(Protocol):
    """A sentence with its class and its mean token log-probabilities under both models."""

    @property
    def text(self) -> str: ...
    @property
    def kind(self) -> Class: ...
    @property
    def teacher(self) -> float: ...
    @property
    def student(self) -> float: ...


# The four pictures --------------------------------------------------------------------------


def probability_densities(name: str, title: str, models: Sequence[Probabilities]) -> Picture:
    """How probable the responses are under each model, before selection and after (as Figures 3, 5, 6, 10).

    `name` is unique in the page. Histograms of one range and of area 1, so that few kept responses can
    be compared with many candidates. The lowest hundredth of all values may be in the first bin.
    """
    pooled = np.concatenate([each for one in models for each in (one.candidates, one.kept)])
    bins = common_bins(pooled)

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for panel, one in zip(panels, models, strict=True):
            density_panel(panel, one, bins)
        panels[0].set_ylabel("density")

    told = "; ".join(
        f"under the {one.model}, median {middle(one.candidates)} of {len(one.candidates)} candidates and "
        f"{middle(one.kept)} of {len(one.kept)} kept ones"
        for one in models
    )
    outside = int((pooled < bins[0]).sum())
    below = f" {outside} values below {bins[0]:g} are drawn in the first bin." if outside else ""
    description = f"Densities of the responses' probabilities: {told}.{below}"
    return picture(name, title, description, draw, (WIDTH, 2.7))


def density_panel(panel: "Axes", one: Probabilities, bins: NDArray[np.float64]) -> None:
    colour = COLOUR_OF[one.model]
    panel.stairs(density(one.candidates, bins), bins, fill=True, color=SHARED, label="all candidates")
    panel.stairs(density(one.kept, bins), bins, color=colour, linewidth=1.6, label="kept")
    for values, line, style, whose in ((one.candidates, INK, ":", "all"), (one.kept, colour, "--", "kept")):
        if len(values):
            told = f"median of {whose} {middle(values)}"
            panel.axvline(float(np.median(values)), color=line, linewidth=1.0, linestyle=style, label=told)
    panel.set_title(f"under the {one.model}")
    panel.set_xlabel("probability of a response")
    panel.legend(loc="best", fontsize="small")


def common_bins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of equal bins between multiples of 0.05, from the lowest but a hundredth of the values up."""
    low = math.floor(float(np.quantile(values, 0.01)) * 20) / 20 if len(values) else 0.0
    high = math.ceil(float(values.max(initial=0.0)) * 20) / 20
    return np.linspace(low, max(high, low + 0.05), BINS + 1)


def density(values: NDArray[np.float64], bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the values by bin over the bins' width; zeros where there are no values.

    What lies below the first edge counts in the first bin.
    """
    counts = np.histogram(np.maximum(values, bins[0]), bins)[0].astype(np.float64)
    area = counts.sum() * float(bins[1] - bins[0])
    return counts / area if area else counts


def middle(values: NDArray[np.float64]) -> str:
    return f"{float(np.median(values)):.3f}" if len(values) else "–"


def class_shares(name: str, title: str, bars: Sequence[Shares]) -> Picture:
    """The shares of Teacher, shared and Student Sentences, one bar for each set of responses."""

    def draw(figure: "Figure") -> None:
        panel = figure.subplots()
        for place, bar in enumerate(bars):
            stacked_bar(panel, place, bar)
        panel.set_yticks(range(len(bars)), [clean(bar.label) for bar in bars])
        panel.set_ylim(len(bars) - 0.4, -0.6)
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        figure.legend(handles=list(class_patches()), loc="outside upper left", ncols=3, fontsize="small")

    told = "; ".join(
        f"{clean(bar.label)}: {', '.join(f'{kind} {bar.of(kind):.1%}' for kind in CLASSES)}" for bar in bars
    )
    return picture(
        name, title, f"Shares of sentences by class. {told}.", draw, (WIDTH, 0.8 + 0.3 * len(bars))
    )


def stacked_bar(panel: "Axes", place: float, bar: Shares) -> None:
    left = 0.0
    for kind in CLASSES:
        width = bar.of(kind)
        panel.barh(place, width, left=left, height=0.8, **fill_of(kind))
        if width >= LABELLED:
            colour = INK if kind == "shared" else PAGE
            shown = panel.text(
                left + width / 2, place, f"{width:.0%}", ha="center", va="center", color=colour
            )
            if kind == "student":
                shown.set_bbox({"facecolor": STUDENT, "edgecolor": "none", "pad": 1})
        left += width


def fill_of(kind: Class) -> dict[str, Any]:
    """How a class's area is filled: hatched for the student, so that no one needs to see the colour."""
    return {"facecolor": COLOUR_OF[kind], "edgecolor": PAGE, "hatch": "////" if kind == "student" else None}


def class_patches() -> "Iterator[Any]":
    from matplotlib.patches import Patch

    names = {"teacher": "Teacher Sentences", "shared": "shared", "student": "Student Sentences"}
    for kind in CLASSES:
        yield Patch(label=names[kind], **fill_of(kind))


def loss_curve(name: str, title: str, steps: Sequence[Step], unit: str = "step") -> Picture:
    """Training loss, and the learning rate below where the log has it.

    A long log is drawn as at most 120 means, each over as many log lines, in a band from the lowest to
    the highest loss among them.
    """
    parts = parted(steps)

    def draw(figure: "Figure") -> None:
        rated = any(step.learning_rate is not None for step in steps)
        ratios = [3, 1] if rated else [1]
        panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        loss_panel(panels[0], parts)
        if rated:
            rate_panel(panels[1], steps)
        panels[-1].set_xlabel(unit)

    first, last = (mean_loss(part) for part in (parts[0], parts[-1]))
    size = len(parts[0])
    description = (
        f"Loss over {len(steps)} log lines up to {unit} {steps[-1].at:g}: from {first:.3f} to {last:.3f}"
        f"{f', means of {size} lines each' if size > 1 else ''}."
    )
    return picture(name, title, description, draw, (WIDTH, 2.9))


def parted(steps: Sequence[Step], count: int = POINTS) -> list[Sequence[Step]]:
    """The log in at most `count` parts of one length; the last may be shorter."""
    size = -(-len(steps) // count)
    return [steps[start : start + size] for start in range(0, len(steps), size)]


def mean_loss(part: Sequence[Step]) -> float:
    return math.fsum(step.loss for step in part) / len(part)


def loss_panel(panel: "Axes", parts: Sequence[Sequence[Step]]) -> None:
    places = [math.fsum(step.at for step in part) / len(part) for part in parts]
    if any(len(part) > 1 for part in parts):
        lowest, highest = ([pick(step.loss for step in part) for part in parts] for pick in (min, max))
        panel.fill_between(places, lowest, highest, color=TEACHER, alpha=0.2, linewidth=0)
    panel.plot(places, [mean_loss(part) for part in parts], color=TEACHER, linewidth=1.4)
    panel.set_ylabel("loss")
    panel.set_ylim(bottom=0)


def rate_panel(panel: "Axes", steps: Sequence[Step]) -> None:
    rated = [step for part in parted(steps) for step in part[:1] if step.learning_rate is not None]
    panel.plot([step.at for step in rated], [step.learning_rate or 0.0 for step in rated], color=INK, lw=0.9)
    panel.set_ylabel("learning\nrate", fontsize="small")
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_locator(locator(3))
    panel.yaxis.set_major_formatter(lambda rate, _: f"{rate:.0e}" if rate else "0")


def locator(count: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count)


def sentence_probabilities(name: str, title: str, sentences: Sequence[Classified]) -> Picture:
    """Each sentence of a response in turn: its probability under both models, and its class.

    A column is tinted by class and says the sentence's words when pointed at.
    """
    teacher, student = (
        [math.exp(getattr(one, side)) for one in sentences] for side in ("teacher", "student")
    )
    counts = {kind: sum(one.kind == kind for one in sentences) for kind in CLASSES}

    def draw(figure: "Figure") -> None:
        panel = figure.subplots()
        places = range(1, len(sentences) + 1)
        panel.vlines(places, student, teacher, color=INK, linewidth=0.8)
        panel.plot(places, teacher, "o", color=TEACHER, markersize=5, label="under the teacher")
        panel.plot(places, student, "v", color=STUDENT, markersize=5, label="under the student")
        for place, one in zip(places, sentences, strict=True):
            sentence_column(panel, place, one)
        panel.set_xlim(0.5, len(sentences) + 0.5)
        panel.set_ylim(-0.03, 1.12)
        panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
        panel.set_xlabel("sentence (T: Teacher Sentence, S: Student Sentence)", loc="left")
        panel.set_ylabel("probability")
        figure.legend(loc="outside upper left", ncols=2, fontsize="small")

    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    hovers = {
        column(place): f"{place}, {one.kind}: {' '.join(one.text.split())} "
        f"(teacher {math.exp(one.teacher):.3f}, student {math.exp(one.student):.3f})"
        for place, one in enumerate(sentences, 1)
    }
    size = (max(WIDTH, 1.0 + 0.16 * len(sentences)), 3.0)
    return picture(name, title, f"{len(sentences)} sentences by class: {told}.", draw, size, hovers)


def sentence_column(panel: "Axes", place: int, one: Classified) -> None:
    """The tint behind one sentence, and its letter."""
    named = one.kind != "shared"
    panel.axvspan(
        place - 0.5,
        place + 0.5,
        color=COLOUR_OF[one.kind],
        alpha=0.25 if named else 0.08,
        linewidth=0,
        gid=column(place),
    )
    if named:
        panel.text(place, 1.03, one.kind[0].upper(), ha="center", va="bottom", fontsize="small")


def column(place: int) -> str:
    return f"sentence-{place}"


# From matplotlib to the page ----------------------------------------------------------------


def picture(
    name: str,
    title: str,
    description: str,
    draw: Any,
    size: tuple[float, float],
    hovers: Mapping[str, str] | None = None,
) -> Picture:
    """What `draw(figure)` draws on `size` inches. `hovers` gives titles to the parts with these ids."""
    import matplotlib.style
    from matplotlib.figure import Figure

    written = io.BytesIO()
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = inline(written.getvalue(), name, title, description, hovers or {})
    return Picture(title=title, description=description, svg=svg)


def inline(written: bytes, name: str, title: str, description: str, hovers: Mapping[str, str]) -> str:
    """matplotlib's file as an element of a page: its colours, named for screen readers."""
    document = minidom.parseString(NO_XML.sub("\ufffd", written.decode()))  # noqa: S318  matplotlib wrote it a moment ago
    root = document.documentElement
    assert root is not None
    for tag in ("metadata", "style"):
        for element in list(root.getElementsByTagName(tag)):
            if element.parentNode:
                element.parentNode.removeChild(element)
    for element in root.getElementsByTagName("*"):
        for attribute in ("style", "fill", "stroke"):
            if element.hasAttribute(attribute):
                element.setAttribute(attribute, recoloured(element.getAttribute(attribute)))
        if element.hasAttribute("d"):
            element.setAttribute("d", FINER.sub(r"\1", element.getAttribute("d")))
        if (part := element.getAttribute("id")) in hovers:
            put_first(element, words(document, "title", hovers[part]))
        if element.tagName == "g" and element.hasAttribute("id"):
            element.removeAttribute("id")
    for kind, text in (("desc", description), ("title", title)):
        element = words(document, kind, text)
        element.setAttribute("id", f"{name}-{kind}")
        put_first(root, element)
    root.setAttribute("role", "img")
    root.setAttribute("aria-labelledby", f"{name}-title {name}-desc")
    root.setAttribute("style", "stroke-linejoin: round; stroke-linecap: butt")
    return root.toxml()


def recoloured(style: str) -> str:
    """A style with the page's colours and fonts in place of matplotlib's."""
    style = re.sub(r"#[0-9a-f]{6}\b", lambda found: COLOURS.get(found[0], found[0]), style)
    return re.sub(r"font-family: [^;]*", "font-family: system-ui, sans-serif", style)


def words(document: minidom.Document, tag: str, text: str) -> minidom.Element:
    element = document.createElement(tag)
    element.appendChild(document.createTextNode(clean(text)))
    return element


def put_first(parent: minidom.Element, child: minidom.Element) -> None:
    parent.insertBefore(child, parent.firstChild)


def clean(text: str) -> str:
    """The text with what neither XML nor a terminal may hold replaced: a model may say anything."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def identifier(text: str) -> str:
    """A name for a picture, usable as an id in a page and as a part of a file name."""
    return re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-") or "picture"


def steps_of(log: Iterable[Mapping[str, Any]]) -> tuple[list[Step], str]:
    """The steps of a training's log (transformers' `log_history`), and the unit of `at`.

    Lines without a finite loss are left out: a training that diverged, or an evaluation's line.
    """
    entries = [entry for entry in log if is_finite(entry.get("loss"))]
    unit = "step" if all("step" in entry for entry in entries) else "epoch"
    return [
        Step(at=float(entry[unit]), loss=float(entry["loss"]), learning_rate=entry.get("learning_rate"))
        for entry in entries
    ], unit


def is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
