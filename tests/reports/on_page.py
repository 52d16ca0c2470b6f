"""What a reader sees of an open report, read out of the browser."""

from tests.browser.chromium import View


def verdicts_shown(view: View) -> list[str]:
    """The verdict of each line that is shown, from top to bottom."""
    cells = view.page.locator("#claims tr:not([hidden]) td.verdict > span")
    return [text.strip() for text in cells.all_inner_texts()]


def column(view: View, place: int) -> list[str]:
    """A column of the claim table as it is shown; the first is 1."""
    return view.page.locator(f"#claims tbody tr:not([hidden]) > :nth-child({place})").all_inner_texts()


def unfold(view: View) -> None:
    view.page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")
