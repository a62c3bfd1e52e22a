"""Headless Chromium for pages that lie on a disk, and what it says about them."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Without a sandbox, which needs rights that CI's root does not have; surfaces in space
#: are drawn by software where there is no graphics card.
_ARGUMENTS = ("--no-sandbox", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage")
#: Milliseconds: machines that run tests may be busy.
_PATIENCE = 120_000


def executable() -> str | None:
    """Where Chromium is, or None."""
    return next((place for name in NAMES if (place := shutil.which(name))), None)


@contextmanager
def launched():
    """Chromium, closed afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(), args=[*_ARGUMENTS]
        )
        yield browser
        browser.close()


@dataclass
class Shown:
    """A page as a reader has it before them.

    Attributes:
        page: of Playwright.
        complaints: errors, of the console too, and dialogs.
        requests: addresses asked for beside the file itself.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def figures(self) -> list[Any]:
        """Every figure's place, each scrolled to and drawn."""
        self.page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        places = self.page.query_selector_all(".plot")
        for place in places:
            place.scroll_into_view_if_needed()
            place.wait_for_selector("svg, canvas", state="attached")
        return places

    def overflow(self) -> float:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


@contextmanager
def shown(browser: Any, file: Path, width: int = 1280, scheme: str = "light"):
    """Open a file in a window that has no network.

    Args:
        browser: from `launched`.
        file: the page.
        width: of the window in pixels.
        scheme: "light" or "dark": what the system wants.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        offline=True,
        accept_downloads=True,
    )
    context.set_default_timeout(_PATIENCE)
    seen = Shown(context.new_page())

    def ask(request: Any) -> None:
        own = request.url == file.as_uri()
        if not own and not request.url.startswith(("data:", "blob:")):
            seen.requests.append(request.url)

    def refuse(dialog: Any) -> None:
        seen.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def listen(said: Any) -> None:
        # Warnings are about speed where a processor draws what a graphics card would.
        if said.type == "error":
            seen.complaints.append(said.text)

    seen.page.on("request", ask)
    seen.page.on("dialog", refuse)
    seen.page.on("console", listen)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.goto(file.as_uri())
    yield seen
    context.close()
