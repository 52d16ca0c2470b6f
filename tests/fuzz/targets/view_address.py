"""The address of one of the viewer's pages, which anybody can send."""

from urllib.parse import parse_qsl

from reports.view.choosing import FACETS, SORTS, wanted_of

REFUSALS = ()
WORDS = (
    b"row=", b"benchmark=", b"verdict=", b"lenient=", b"error=", b"flip=", b"q=", b"sort=-tokens", b"page=",
    b"&", b"%00", b"%ed%a0%80", b"%F0%9F%98%80", b"99999999", b"%D9%A3", b"-1", b"%C2%B2", b"+", b";",
    b"<script>",
)  # fmt: skip


def read(data: bytes) -> None:
    fields = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)
    wanted = wanted_of(fields)
    assert wanted.page >= 1
    assert wanted.sort in SORTS
    assert wanted_of(parse_qsl(wanted.query().removeprefix("?"), keep_blank_values=True)) == wanted
    for facet in FACETS:
        assert "a" in wanted.toggled(facet, "a").values(facet) or "a" in wanted.values(facet)
