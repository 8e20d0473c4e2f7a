"""A browser opens the page: no complaint on its console, no request, no sideways scrolling."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from limbeck.report import write, write_many

Make = Callable[..., Path]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The browser itself is cut off from the network, so that it asks nothing on its own account either.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the page with")


@dataclass(frozen=True)
class Seen:
    dom: str
    console: list[str]
    requests: list[str]


def look(path: Path, tmp_path: Path) -> Seen:
    """Opens a file and reports what happened."""
    assert BROWSER is not None
    log = tmp_path / "net.json"
    found = subprocess.run(
        [
            *(BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"),
            *("--virtual-time-budget=2000", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # "not an origin" marks what the browser asks for on its own account; a page's requests carry its origin.
    events = [re.search(r'"initiator":"(.*?)".*"url":"(.*?)"', line) for line in log.read_text().splitlines()]
    requests = [m.group(2) for m in events if m and m.group(1) != "not an origin"]
    return Seen(found.stdout.replace("\u00a0", " "), re.findall(r"CONSOLE.*", found.stderr), requests)


def test_this_check_sees_errors_and_requests(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<script>console.error("oops")</script><img src="http://127.0.0.1:9/x.png">', encoding="utf-8"
    )
    seen = look(bad, tmp_path)
    assert "oops" in seen.console[0]
    assert seen.requests == ["http://127.0.0.1:9/x.png"]


def test_the_page_opens_without_error_or_request(make_run: Make, tmp_path: Path) -> None:
    seen = look(write(make_run()), tmp_path)
    assert "Distilling helped" in seen.dom
    assert seen.dom.count("<svg") == 7
    assert seen.console == []
    assert seen.requests == []


@pytest.mark.parametrize("width", [390, 760, 1200])
def test_no_page_scrolls_sideways(make_run: Make, tmp_path: Path, width: int) -> None:
    run = make_run()
    paths = [write(run), write_many([run, run], tmp_path / "many.html")]
    frames = "".join(
        f'<iframe src="{p.as_uri()}" style="width:{width}px;height:900px"></iframe>' for p in paths
    )
    script = """<script>onload = () => { document.title = [...document.querySelectorAll("iframe")].map(
        f => f.contentDocument.documentElement).map(e => e.scrollWidth - e.clientWidth).join() }</script>"""
    frame = tmp_path / "frame.html"
    frame.write_text(f"<title>not measured</title>{frames}{script}", encoding="utf-8")
    assert re.search(r"<title>(.*?)</title>", look(frame, tmp_path).dom, flags=re.S).group(1) == "0,0"  # type: ignore[union-attr]
