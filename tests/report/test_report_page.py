# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: it is quiet, complete, fits a phone and a sheet of paper."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_dl.commands import report
from tests.scaling import synthetic

pytestmark = pytest.mark.browser
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PLOTS = ("efficiency", "throughput", "split", "spread", "nodes")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 1 to 8 nodes with two repeats each, an outlier and a name that is too long for a phone."""
    folder = tmp_path_factory.mktemp("study")
    for ranks, efficiency in ((4, 1.0), (8, 0.95), (16, 0.9), (32, 0.8)):
        for repeat in range(2):
            name = "a-model-with-a-name-that-goes-on-and-on-" * 3
            head = synthetic.header(ranks, run_id=f"run-{ranks}-{repeat}", name=name, epoch_samples=10**6)
            times = [(0.5 + 0.01 * repeat) / efficiency * (1 + 0.02 * (window % 3)) for window in range(12)]
            synthetic.write(folder / "runs", head, [*times[:6], 1.5, *times[6:]])
    report.main([str(folder / "runs"), "--output", str(folder / "out"), "--epochs", "10"], {})
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    webdriver = pytest.importorskip("selenium.webdriver") if not os.environ.get("CI") else _webdriver()
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def _webdriver() -> Any:
    from selenium import webdriver

    return webdriver


def open_page(browser: Any, page: Path, width: int, dark: bool = False) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
    browser.get(page.as_uri())


def test_no_console_message_and_no_request(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    open_page(browser, page, 1100)
    assert browser.get_log("browser") == []
    requests = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert len(requests) in (1, 2)  # the page, and its icon, which is an empty data address
    assert not any('"url":"http' in request for request in requests)


def test_every_plot_is_drawn_with_text_and_lines(browser: Any, page: Path) -> None:
    open_page(browser, page, 1100)
    for name in PLOTS:
        box, texts, paths = browser.execute_script(
            "const svg = document.getElementById(arguments[0]); const box = svg.getBoundingClientRect();"
            "const count = kind => svg.querySelectorAll(kind).length;"
            "return [[box.width, box.height], count('text'), count('path')]",
            name,
        )
        assert box[0] > 300, name
        assert box[1] > 200, name
        assert texts >= 5, name
        assert paths >= 10, name


def test_ids_are_unique_on_the_page(browser: Any, page: Path) -> None:
    open_page(browser, page, 1100)
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    dead = browser.execute_script(
        "return [...document.querySelectorAll('use')].map(node => node.href.baseVal)"
        ".filter(target => !document.querySelector(target))"
    )
    assert dead == []


@pytest.mark.parametrize("width", [320, 360, 414])
def test_nothing_sticks_out_on_a_phone(width: int, browser: Any, page: Path) -> None:
    open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    texts = browser.execute_script(
        "return [...document.querySelectorAll('svg.plot text')].map(text => text.getBoundingClientRect().height)"
    )
    assert min(text for text in texts if text) > 7


def test_dark_mode_turns_page_and_plots(browser: Any, page: Path) -> None:
    colours = {}
    for dark in (False, True):
        open_page(browser, page, 1100, dark)
        colours[dark] = browser.execute_script(
            "const style = node => getComputedStyle(node);"
            "return [style(document.body).backgroundColor, style(document.querySelector('#efficiency text')).fill]"
        )
    assert all(sum(rgb(colour)) > 600 for colour in (colours[False][0], colours[True][1]))
    assert all(sum(rgb(colour)) < 150 for colour in (colours[True][0], colours[False][1]))


def rgb(colour: str) -> list[int]:
    return [int(part) for part in colour[4:-1].split(",")]


def test_print_is_black_on_white_on_few_pages_even_from_a_dark_screen(browser: Any, page: Path) -> None:
    open_page(browser, page, 1100, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    paper, ink, wide, proposal = browser.execute_script(
        "const style = node => getComputedStyle(node);"
        "return [style(document.body).backgroundColor, style(document.body).color,"
        "style(document.querySelector('.wide')).overflowX, style(document.querySelector('.proposal')).breakBefore]"
    )
    assert rgb(paper) == [255, 255, 255]
    assert rgb(ink) == [0, 0, 0]
    assert wide == "visible"
    assert proposal == "page"
    sheet = {"paperWidth": 8.27, "paperHeight": 11.69}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", sheet)["data"])
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page/") in range(3, 8)
    open_page(browser, page, 680)  # 180 mm between the margins of A4 at 96 dots an inch; the font is the machine's
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    widest = browser.execute_script(
        "return Math.max(...[...document.querySelectorAll('table')].map(table => table.offsetWidth))"
    )
    assert widest <= 680
