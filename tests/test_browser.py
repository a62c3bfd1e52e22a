"""Pages in a browser, every kind: offline, drawn, sorted, copied, dark, narrow."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from browser import NAMES, executable, launched, shown
from small_runs import HOSTILE, finished_run, prepare
from summiteer.report.page import page
from summiteer.report.pages import DOCUMENTS, write_page
from summiteer.report.palette import PAPER
from test_page import document

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [
    pytest.mark.skipif(
        executable() is None, reason=f"there is no browser: none of {', '.join(NAMES)}"
    ),
    # Runs and windows are made once: one process has all of these tests.
    pytest.mark.xdist_group("browser"),
]

#: The synthetic page has every block, and HTML wherever there is text.
EVERY = "every block"
KINDS = (EVERY, *DOCUMENTS)
WIDE, NARROW, PAPER_WIDTH = 1280, 400, 700


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page of a kind, made once."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    prepare(folder)

    def find(kind):
        if kind not in made:
            if kind == EVERY:
                made[kind] = folder / "every.html"
                made[kind].write_text(page(document(HOSTILE)))
            else:
                made[kind] = write_page(finished_run(kind, folder))
        return made[kind]

    return find


@pytest.fixture(scope="module")
def opened(browser, file):
    """The window of a page, its figures drawn; one for all tests of the same look."""
    windows = {}
    with ExitStack() as stack:

        def show(kind, width=WIDE, scheme="light"):
            look = kind, width, scheme
            if look not in windows:
                window = shown(browser, file(kind), width, scheme)
                windows[look] = stack.enter_context(window)
                windows[look].figures()
            return windows[look]

        yield show


@pytest.fixture
def fresh(browser, file):
    """A window of the synthetic page that no other test has touched."""
    with shown(browser, file(EVERY)) as seen:
        yield seen


@pytest.mark.parametrize("kind", KINDS)
def test_pages_open_offline_and_draw_their_figures(opened, kind):
    seen = opened(kind)
    for place in seen.page.query_selector_all(".plot"):
        drawn = place.query_selector_all("svg.main-svg, canvas")
        sizes = [each.bounding_box() for each in drawn]
        assert any(box and box["width"] > 100 and box["height"] > 50 for box in sizes)
        assert "WebGL is not supported" not in place.inner_text()
        assert place.get_attribute("aria-label").strip()
    assert seen.requests == []
    assert seen.complaints == []


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_html_are_shown_as_text(opened, kind):
    seen = opened(kind)
    assert seen.page.query_selector("img[src=x], img[onerror]") is None
    if kind != "reproduce":  # which names nothing of the user's
        assert HOSTILE in seen.page.evaluate("document.body.textContent")
    assert seen.complaints == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_telephone_or_paper(opened, kind):
    seen = opened(kind, NARROW, "dark")
    screen = {"width": NARROW, "height": 900}
    assert seen.overflow() <= 0
    seen.page.emulate_media(media="print")
    seen.page.set_viewport_size({"width": PAPER_WIDTH, "height": 1000})
    seen.page.wait_for_timeout(200)
    wide = seen.overflow()
    # Buttons are of no use on paper, but for the names in heads of tables.
    buttons = seen.page.locator("button:not(th *)").locator("visible=true").count()
    seen.page.emulate_media(media="screen")
    seen.page.set_viewport_size(screen)
    # Figures are drawn again where the window's width has changed.
    seen.page.wait_for_timeout(400)
    assert (wide <= 0, buttons) == (True, 0)


_CONTRASTS = Path(__file__).with_name("contrasts.js").read_text()


def background(seen):
    return seen.page.evaluate("getComputedStyle(document.body).backgroundColor")


def rgb(colour):
    parts = ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return f"rgb({parts})"


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
@pytest.mark.parametrize("kind", KINDS)
def test_text_can_be_read_in_light_and_dark(opened, kind, width, scheme):
    seen = opened(kind, width, scheme)
    assert background(seen) == rgb(PAPER[scheme])
    assert seen.page.evaluate(_CONTRASTS) == []


def test_the_button_and_the_system_change_the_colours(fresh):
    assert background(fresh) == rgb(PAPER["light"])
    fresh.page.emulate_media(color_scheme="dark")
    assert background(fresh) == rgb(PAPER["dark"])
    button = fresh.page.locator("#theme")
    assert button.inner_text() == "Light"
    fresh.page.locator(".plot").first.locator(".main-svg").first.wait_for()
    button.click()
    assert background(fresh) == rgb(PAPER["light"])
    assert button.get_attribute("aria-label") == "Use dark colours"
    # The letters of figures follow, which are drawn already.
    assert fresh.page.evaluate(_CONTRASTS) == []
    button.click()
    assert background(fresh) == rgb(PAPER["dark"])
    assert fresh.complaints == []


def test_a_dark_page_is_printed_light(opened):
    seen = opened(EVERY, NARROW, "dark")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    seen.page.emulate_media(media="print")
    printed, faint = background(seen), seen.page.evaluate(_CONTRASTS)
    seen.page.emulate_media(media="screen")
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (printed, faint) == (rgb(PAPER["light"]), [])
    assert background(seen) == rgb(PAPER["dark"])


def column(table, number):
    """What the rows that are shown are sorted by."""
    cells = table.locator(f"tbody tr:not([hidden]) td:nth-child({number + 1})")
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.sort)")


def ordered(keys):
    """Numbers by size, else text; what is unknown last."""
    known = [key for key in keys if key]
    try:
        known = sorted(known, key=float)
    except ValueError:
        known = sorted(known)
    return known


@pytest.mark.parametrize("kind", KINDS)
def test_tables_sort_and_filter(opened, kind):
    seen = opened(kind)
    for table in seen.page.locator(".table:has(table.sortable)").all():
        heads = table.locator("th")
        for number in range(heads.count()):
            head = heads.nth(number)
            for turn in ("ascending", "descending"):
                head.locator("button").click()
                assert head.get_attribute("aria-sort") == turn
                keys = column(table, number)
                known = [key for key in keys if key]
                wanted = ordered(keys)
                if turn == "descending":
                    wanted.reverse()
                numbers = [*map(number_or_text, known)]
                assert numbers == [*map(number_or_text, wanted)]
                assert keys[len(known) :] == [""] * (len(keys) - len(known))
        rows = table.locator("tbody tr")
        total = rows.count()
        field, count = table.locator("input"), table.locator(".count")
        assert count.inner_text() == f"{total} of {total} rows"
        words = rows.first.locator("td").first.inner_text().split()[:1]
        field.fill(" ".join(words))
        left = table.locator("tbody tr:not([hidden])").all_inner_texts()
        assert 1 <= len(left) <= total
        assert all(word.lower() in text.lower() for text in left for word in words)
        assert count.inner_text() == f"{len(left)} of {total} rows"
        field.fill("no such words anywhere")
        assert count.inner_text() == f"0 of {total} rows"
        field.fill("")
        assert count.inner_text() == f"{total} of {total} rows"
    assert seen.complaints == []


def number_or_text(key):
    try:
        return float(key)
    except ValueError:
        return key


_PASTE = """() => {
  const field = document.createElement("textarea");
  field.id = "pasted";
  document.body.prepend(field);
  field.focus();
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_copy_and_download_give_what_is_shown(opened, kind, tmp_path):
    seen = opened(kind)
    for part in seen.page.locator(".code").all():
        text = part.locator("code").evaluate("code => code.textContent")
        part.locator(".copy").click()
        part.get_by_text("copied", exact=True).wait_for()
        seen.page.evaluate(_PASTE)
        seen.page.keyboard.press("Control+V")
        pasted = seen.page.locator("#pasted")
        assert pasted.input_value() == text
        pasted.evaluate("field => field.remove()")
        button = part.locator(".download")
        if button.count():
            with seen.page.expect_download() as coming:
                button.click()
            name = coming.value.suggested_filename
            assert name == button.get_attribute("data-file")
            kept = tmp_path / name
            coming.value.save_as(kept)
            assert kept.read_text() == text
            check_reference(kept)
    assert seen.requests == []


def check_reference(file):
    """A file of references is one to the programs that read such files."""
    text = file.read_text()
    if file.suffix == ".bib" and "@" in text:
        bibtexparser = pytest.importorskip("bibtexparser")
        found = bibtexparser.parse_string(text)
        assert not found.failed_blocks
        assert len(found.entries) == len(re.findall("^@", text, re.MULTILINE))
    elif file.suffix == ".ris":
        rispy = pytest.importorskip("rispy")
        assert len(rispy.loads(text)) == len(re.findall("^TY  - ", text, re.MULTILINE))
    elif file.suffix == ".enw":
        lines = [line for line in text.splitlines() if line]
        assert lines[0].startswith("%0 ")
        assert all(re.match(r"%\S ", line) for line in lines)
    elif file.suffix == ".json":
        assert all(entry["title"] for entry in json.loads(text))


_FOCUSABLE = "a[href], button, input, summary, [tabindex='0']"
_REACHED = """() => {
  const node = document.activeElement;
  const look = getComputedStyle(node);
  if (node === document.body || node.dataset.reached) return null;
  node.dataset.reached = "yes";
  return look.outlineStyle !== "none" || look.boxShadow !== "none"
    || node.querySelector("circle") !== null;
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_keyboard_reaches_everything(opened, kind):
    seen = opened(kind)
    seen.page.locator(".skip").focus()
    seen.page.evaluate(_REACHED)
    wanted = seen.page.locator(_FOCUSABLE).locator("visible=true").count()
    # Browsers add what scrolls.
    for _ in range(2 * wanted + 20):
        seen.page.keyboard.press("Tab")
        visible = seen.page.evaluate(_REACHED)
        if visible is None:
            break
        assert visible, "the focus is not seen"
    left = seen.page.locator(_FOCUSABLE).locator("visible=true")
    names = left.evaluate_all(
        "all => all.filter(n => !n.dataset.reached).map(n => n.outerHTML.slice(0, 80))"
    )
    assert names == []


def test_the_keyboard_sorts_chooses_and_skips(fresh):
    fresh.page.keyboard.press("Tab")
    assert fresh.page.evaluate("document.activeElement.className") == "skip"
    fresh.page.keyboard.press("Enter")
    assert fresh.page.url.endswith("#main")
    head = fresh.page.locator("table.sortable th").nth(1)
    head.locator("button").focus()
    fresh.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    fresh.page.locator(".graph [data-key=b]").focus()
    assert fresh.page.locator(".graph .chosen").inner_text() == "b"
    assert fresh.page.locator(".graph path.lit").count() == 1


def test_figures_are_drawn_before_they_are_printed(fresh):
    fresh.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    drawn = "document.querySelectorAll('.plot .main-svg').length"
    places = "document.querySelectorAll('.plot').length"
    assert fresh.page.evaluate(drawn) >= fresh.page.evaluate(places)
    assert fresh.page.evaluate(
        "[...document.querySelectorAll('details')].every(d => d.open)"
    )
    assert fresh.page.pdf()[:5] == b"%PDF-"
