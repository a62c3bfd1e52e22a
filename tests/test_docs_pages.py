"""The built pages in a browser: nothing from elsewhere, no error, narrow screens too.

`make docs` builds them into out/docs; each test skips where that was not done.
"""

import shutil
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[1] / "out" / "docs"
CHROMIUM = Path(shutil.which("chromium") or "chromium")
#: One page of each kind; the others are made by the same templates.
LOOKED_AT = (
    "index",
    "guides/start",
    "guides/certificates",
    "tutorial",
    "api/attack",
    "bibliography",
    "comparison",
    "benchmarks",
)


@pytest.fixture(scope="module")
def browser():
    if not (BUILT / "index.html").exists():
        pytest.skip("make docs builds the pages")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: the Debian package chromium has it")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_opens_by_itself(browser, name, scheme):
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "console",
        lambda message: said.append(message.text) if message.type == "error" else None,
    )
    page.goto((BUILT / f"{name}.html").as_uri(), wait_until="load")
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container svg")
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert not said
    assert asked
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert wide <= 400
