"""Time the page: python tests/leaderboard/measure_site.py [RECORDS]."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import sync_playwright
from site_records import synthetic

from mmrev.leaderboard.groups import grouped
from mmrev.leaderboard.site import build

# A click on each head, with the layout that follows it, in milliseconds.
SORTS = """() => [...document.querySelectorAll("#records thead button")].map(head => {
  const start = performance.now();
  head.click();
  document.body.getBoundingClientRect();
  return performance.now() - start;
})"""


def main(count: int = 500) -> None:
    """Build pages of as many rows, then sort them in Chromium."""
    # Three records are one row.
    records = [group.newest for group in grouped(synthetic(3 * count))]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        start = time.perf_counter()
        build(records, Path(folder, "site"))
        print(f"{len(records)} records built in {time.perf_counter() - start:.2f} s")
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(Path(folder, "site/index.html").as_uri(), timeout=0)
        print(f"opened in {time.perf_counter() - start:.2f} s")
        times = [one for _ in range(5) for one in page.evaluate(SORTS)]
        print(
            f"sorted: median {statistics.median(times):.1f}, most {max(times):.1f} ms"
        )
        browser.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
