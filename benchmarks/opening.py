"""How long a page takes to open, in headless Chromium.

Run `python -m benchmarks.opening PAGE.html …` on a quiet machine; `--times 5` opens
each so often and gives the median and the longest. What is timed, from the click on:
`read`, until the page can be read and scrolled; `drawn`, until its first figure stands.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.browser import launched, shown

_DRAWN = "() => document.querySelector('.plot .main-svg, .plot canvas')"


def opened(browser: Any, file: Path) -> tuple[float, float | None]:
    """Seconds until a page can be read, and until its first figure stands.

    Args:
        browser: from `launched`.
        file: the page.
    """
    with shown(browser, file) as seen:
        timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        read = seen.page.evaluate(timing) / 1000
        if not seen.page.locator(".plot").count():
            return read, None
        seen.page.locator(".plot").first.scroll_into_view_if_needed()
        seen.page.wait_for_function(_DRAWN)
        return read, seen.page.evaluate("performance.now()") / 1000


def main() -> None:
    """Print a line per page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with launched() as browser:
        for file in given.pages:
            times = [opened(browser, file.resolve()) for _ in range(given.times)]
            size = file.stat().st_size / 1e6
            told = f"{file}: {size:.1f} MB"
            for name, column in zip(
                ("read", "drawn"), zip(*times, strict=True), strict=True
            ):
                known = [value for value in column if value is not None]
                if known:
                    middle, most = statistics.median(known), max(known)
                    told += f", {name} {middle:.2f} s (longest {most:.2f} s)"
            print(told)
    sys.exit(0)


if __name__ == "__main__":
    main()
