"""Pages in headless Chromium, with everything they asked for and complained about kept.

    @needs_chromium
    def test_the_page_is_quiet_and_accessible(tmp_path):
        with opened(tmp_path / "report.html") as view:        # a file, or a URL of this machine
            assert view.requests == []                        # all but the page itself
            assert view.complaints == []                      # console errors, exceptions, refused by CSP
            assert view.accessibility() == []                 # axe-core: one line a violation
            view.page.get_by_role("button", name="Verdict").press("Enter")     # Playwright's Page
            view.screenshot(tmp_path / "light.png")

`opened(..., dark=True)` asks for the dark scheme, `scripts=False` opens it as a browser without JavaScript
does, `width=400` is a telephone, `still=True` asks for less motion. The browser can reach nothing but
127.0.0.1. `./install` brings Debian's Chromium and axe-core; $CHROMIUM names another binary. Without them
`needs_chromium` skips a test (in CI a skipped test fails) and `opened` raises Missing.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

HERE = Path(__file__).resolve().parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
UNTOLD = ("only non-text characters", "too short to determine")
ALL = """async ([tags, off]) => {
  const rules = Object.fromEntries(off.map((rule) => [rule, { enabled: false }]));
  return await axe.run(document, { runOnly: { type: "tag", values: tags }, rules });
}"""
# With nothing scrolled out of sight: axe-core cannot tell the contrast of what is cut.
CONTRAST = """async () => {
  const scrolls = (one) => /auto|scroll/.test(getComputedStyle(one).overflow);
  const cut = [document.body, ...[...document.querySelectorAll("body *")].filter(scrolls)];
  const wide = cut.filter((one) => one === document.body || one.scrollWidth > one.clientWidth);
  const styles = cut.map((one) => one.style.cssText);
  for (const one of cut) Object.assign(one.style, { overflow: "visible", maxHeight: "none" });
  for (const one of wide) Object.assign(one.style, { maxWidth: "none", width: "max-content" });
  const found = await axe.run(document, { runOnly: { type: "rule", values: ["color-contrast"] } });
  cut.forEach((one, place) => { one.style.cssText = styles[place]; });
  return found;
}"""
ROOMY = 4000  # pixels
# No name resolves but this machine's own address.
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"


class Missing(RuntimeError):
    """No Chromium, or no axe-core."""


def chromium() -> str:
    """The path of the browser. Raises Missing."""
    names = (os.environ["CHROMIUM"],) if "CHROMIUM" in os.environ else NAMES
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise Missing("no Chromium here: tests/browser/install brings Debian's, or set $CHROMIUM")
    return found


def missing() -> str:
    """What of the two is not there; empty where both are."""
    try:
        chromium()
    except Missing as error:
        return str(error)
    return "" if AXE.is_file() else "no axe-core here: tests/browser/install brings it"


needs_chromium = pytest.mark.skipif(bool(missing()), reason=missing())


def until(page: Page, expression: str, seconds: float = 10.0) -> None:
    """Waits until an expression is true. Playwright's own waiting evaluates words in the page, which the
    policy of ours forbids."""
    ends = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < ends, f"never true: {expression}"
        page.wait_for_timeout(5)


@dataclass(kw_only=True)
class View:
    """A page that is open. `requests` are the URLs it asked for beside itself, `complaints` what its console
    says at the levels of warning and error, and what no script caught."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self, url: str) -> None:
        def asked(request: Request) -> None:
            if request.url.partition("#")[0] != url or not request.is_navigation_request():
                self.requests.append(request.url)

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(f"{message.type}: {message.text}")

        self.page.on("request", asked)
        self.page.on("console", said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))

    def accessibility(self, *off: str) -> list[str]:
        """What axe-core objects to: `rule: help: the first element`, one line an element. Where it cannot
        tell the contrast of words, that is an objection too; a lone symbol and a picture's labels it never
        can tell. `off` are rules that do not apply."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(ALL, [RULES, list(off)])
        assert found["passes"], "axe-core looked at nothing"
        words = {"violations": [], "incomplete": []} if "color-contrast" in off else self.contrast()
        rules = [*(one for one in found["violations"] if one["id"] != "color-contrast"), *words["violations"]]
        broken = [(one, node) for one in rules for node in one["nodes"]]
        unsure = [
            (one, node)
            for one in words["incomplete"]
            for node in one["nodes"]
            if not node["html"].startswith(("<text", "<tspan"))
            and not any(known in node["failureSummary"] for known in UNTOLD)
        ]
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]} {' '.join(node['failureSummary'].split())}"
            for one, node in [*broken, *unsure]
        ]

    def contrast(self) -> dict[str, Any]:
        """axe-core's findings on the contrast of everything, with room for all of it."""
        size = self.page.viewport_size
        assert size is not None
        self.page.set_viewport_size({"width": ROOMY, "height": size["height"]})
        found: dict[str, Any] = self.page.evaluate(CONTRAST)
        self.page.set_viewport_size(size)
        return found

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """The page as a picture, all of it or what the window shows."""
        self.page.screenshot(path=path, full_page=whole)
        return path

    def pdf(self, path: Path) -> Path:
        """The page as a printer would get it: A4, the page's own margins and print rules."""
        self.page.pdf(path=path, prefer_css_page_size=True, format="A4")
        return path


@contextmanager
def browser() -> Iterator[Browser]:
    """One Chromium for several `opened(..., using=...)`. Raises Missing."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(), args=[ALONE, "--font-render-hinting=none"]
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(
    what: Path | str,
    *,
    dark: bool = False,
    scripts: bool = True,
    width: int = 1280,
    height: int = 900,
    still: bool = False,
    using: Browser | None = None,
) -> Iterator[View]:
    """A page from disk or by URL, loaded, in a context of its own. Raises Missing."""
    if using is None:
        with (
            browser() as started,
            opened(
                what, dark=dark, scripts=scripts, width=width, height=height, still=still, using=started
            ) as view,
        ):
            yield view
        return
    context: BrowserContext = using.new_context(
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        viewport={"width": width, "height": height},
        reduced_motion="reduce" if still else "no-preference",
    )
    url = what.resolve().as_uri() if isinstance(what, Path) else what
    try:
        view = View(page=context.new_page())
        view.listen(url)
        view.page.goto(url, wait_until="load")
        yield view
    finally:
        context.close()
