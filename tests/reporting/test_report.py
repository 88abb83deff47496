"""The HTML page: whole, escaped, accessible, and working in a real browser."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite

from .test_table import finish

ROOT = Path(__file__).parents[2]
SUITE = """
name: odd
title: "Odd & <b>bold</b> title <script>window.hit = 1</script>"
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}, {teacher: wrn_16_2, student: resnet8}]
methods: [student, {name: kd, label: "<script>window.hit = 2</script>"}, fsp, crd]
"""


class Outline(HTMLParser):
    """Tags and their attributes, and whether each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write(arguments: list[str], out: Path) -> str:
    done = CliRunner().invoke(app, ["report", *arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed results."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    suite, results = ROOT / "suites" / "cifar100_cpu.yaml", ROOT / "results"
    write([str(suite), "--results", str(results)], out)
    return out


def test_the_committed_results_make_a_whole_page(committed: Path) -> None:
    html = committed.read_text(encoding="utf-8")
    outline = Outline(html)
    assert outline.open == []
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    assert tags.count("caption") == tags.count("table")
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in outline.tags:
        assert tag not in ("link", "img", "iframe")
        assert "src" not in attrs
        if (attrs.get("href") or "").startswith("#"):
            assert (attrs["href"] or "")[1:] in ids
    assert "44.24 ± 0.60" in html and "WCoRD (dual)" in html
    assert html.count("<details>") == 1 + 22
    assert html.count("<figure>") == 2 and 'role="img" aria-label="Every seed' in html
    assert "methods minus CRD (36.88 ± 0.12)" in html and "No verdicts" in html
    assert 'aria-label="test top-1 from' in html  # a run's curve


def test_nothing_is_fetched(committed: Path) -> None:
    html = committed.read_text(encoding="utf-8")
    for name in re.findall(r"""([\w:-]+)=["']?(?:https?:)?//""", html):
        assert name in ("xmlns", "xmlns:xlink")  # names of XML, never fetched
    assert not re.findall(r"url\((?!#)", html) and "@import" not in html
    assert "default-src 'none'" in html


def test_a_sweep_and_its_pictures(tmp_path: Path) -> None:
    suite, results = ROOT / "suites" / "privileged_cpu.yaml", ROOT / "results"
    html = write([str(suite), "--results", str(results)], tmp_path / "x.html")
    assert html.count("<figure>") == 3 and "Sweep: resnet20 → resnet8x4" in html
    assert '<th scope="col">test AUC</th>' in html


def test_verdicts_where_the_protocol_is_the_published_one(tmp_path: Path) -> None:
    path, pair = ROOT / "suites" / "cifar100.yaml", "resnet56->resnet20"
    scores = {
        ("Teacher", pair): [72.4],
        ("CRD", pair): [71.1, 71.2, 71.3],
        ("KD", pair): [66, 66.1],
    }
    finish(Store(tmp_path / "r"), load_suite(path), scores)
    html = write([str(path), "--results", str(tmp_path / "r"), "--pair", pair], tmp_path / "x.html")
    assert Outline(html).open == []
    assert "resnet56 → resnet20: ours minus published" in html
    assert "reproduced; teacher 0.06 above published" in html
    assert "below; teacher 0.06 above published" in html


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A page with gaps, failures and names that are markup."""
    suite = tmp_path / "odd.yaml"
    suite.write_text(SUITE)
    store = Store(tmp_path / "r")
    for cell in expand(load_suite(suite)):
        folder = store.folder(cell.run)
        if cell.method is not None and cell.method.name == "fsp":
            folder.begin(cell.run)
            folder.fail("undefined", "channels <differ>")
        if cell.method is not None and cell.method.name == "crd":
            folder.begin(cell.run)
            folder.fail("diverged", "the loss became <script>window.hit = 3</script>")
    store.root.mkdir(exist_ok=True)
    write([str(suite), "--results", str(store.root)], tmp_path / "x.html")
    return tmp_path / "x.html"


def test_gaps_and_odd_names(odd: Path) -> None:
    html = odd.read_text(encoding="utf-8")
    assert Outline(html).open == []
    assert "<script>window" not in html and html.count("<script>") == 1
    for number in (1, 2, 3):
        assert f"&lt;script&gt;window.hit = {number}" in html
    assert "Odd &amp; &lt;b&gt;bold" in html and "channels &lt;differ&gt;" in html
    assert "N/A [1]" in html and "failed [2]" in html and "still to be trained" in html
    assert "Without a result" in html and html.count('<details class="failed">') == 2


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    suite = ROOT / "suites" / "cifar100_cpu.yaml"
    out = str(tmp_path / "no" / "report.html")
    done = CliRunner().invoke(
        app, ["report", str(suite), "--results", str(ROOT / "results"), "--out", out]
    )
    assert isinstance(done.exception, UserError)
    assert out in str(done.exception) and "--out" in str(done.exception)


@pytest.fixture
def browser(tmp_path: Path) -> Any:
    """Headless Chromium, where it and selenium are installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync",
        "disable-background-networking", "disable-component-update", f"user-data-dir={tmp_path}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


CSS = "css selector"


def test_clicked_through_in_a_browser(committed: Path, browser: Any) -> None:
    browser.get(committed.as_uri())

    def rows() -> list[str]:
        return [th.text for th in browser.find_elements(CSS, "#table tbody th")]

    first = rows()
    assert first[0] == "Teacher"
    method, pair = browser.find_elements(CSS, "#table thead button")
    pair.send_keys("\n")  # the keyboard does what the mouse does
    assert rows()[:2] == ["Teacher", "WCoRD+KD"]
    heading = browser.find_element(CSS, "#table thead th:nth-child(2)")
    assert heading.get_attribute("aria-sort") == "descending"
    pair.click()
    assert rows()[0] == "Student" and heading.get_attribute("aria-sort") == "ascending"
    method.click()
    assert rows() == sorted(first, key=str.lower) and not heading.get_attribute("aria-sort")
    difference = browser.find_element(CSS, "#comparisons thead th:nth-child(4) button")
    difference.click()
    shown = [td.text for td in browser.find_elements(CSS, "#comparisons tbody td:nth-child(4)")]
    numbers = [float(text.replace("−", "-")) for text in shown]
    assert numbers == sorted(numbers, reverse=True) and numbers[-1] < 0
    assert browser.get_log("browser") == []


def test_runs_are_filtered_and_opened(committed: Path, browser: Any) -> None:
    browser.get(committed.as_uri())
    browser.find_element(CSS, "#filter").send_keys("dual seed 1")
    (details,) = [d for d in browser.find_elements(CSS, "#runs > details") if d.is_displayed()]
    assert browser.find_element(CSS, "#shown").text == "1 of 22 shown"
    details.find_element(CSS, "summary").send_keys(" ")
    assert details.get_attribute("open") and '"critic": "dual"' in details.text
    assert details.find_element(CSS, ".curve").size["height"] > 20


def test_it_fits_every_reader(committed: Path, browser: Any) -> None:
    """Skip link, colour scheme, narrow screens with everything open, and paper."""
    browser.get(committed.as_uri())
    browser.find_element(CSS, "body").send_keys("\t")
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the results" and skip.location["x"] >= 0
    for scheme, paper in (("dark", "rgb(23, 23, 27)"), ("light", "rgb(255, 255, 255)")):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        script = "return getComputedStyle(document.body).backgroundColor"
        assert browser.execute_script(script) == paper
    browser.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    small = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    wide = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.execute_script(wide)  # wide tables scroll in themselves
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element(CSS, "#filter").is_displayed()
    assert not browser.find_element(CSS, "nav").is_displayed()


def test_no_name_or_reason_is_run(odd: Path, browser: Any) -> None:
    browser.get(odd.as_uri())
    assert browser.execute_script("return window.hit === undefined")
    assert browser.find_element(CSS, "h1").text.endswith("<script>window.hit = 1</script>")
    assert browser.get_log("browser") == []
