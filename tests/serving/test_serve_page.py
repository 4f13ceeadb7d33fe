"""The page in a browser: with a keyboard alone, on a desktop and on a phone."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from test_serve_process import Served

from browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

TAB, ENTER = ("Tab", 9), ("Enter", 13)
FOCUS = "document.activeElement.id"


@pytest.fixture(scope="module")
def served(runs):
    server = Served(runs / "attention")
    yield server
    server.stop()


@pytest.fixture(params=["desktop", "phone"])
def browser(request, tmp_path):
    size = {"width": 390, "height": 844, "phone": True} if request.param == "phone" else {}
    browser = Browser(tmp_path / "profile", dark=request.param == "phone", **size)
    yield browser
    browser.close()


def test_a_text_is_classified_while_it_is_typed_with_a_keyboard_alone(browser, served):
    browser.open(served.url)
    browser.until("document.title === 'attention · dlnotes'")
    assert browser.run(FOCUS) == "text"
    browser.type("the goal")
    answer = browser.until(
        "document.querySelectorAll('#labels li').length === 3 && document.getElementById('answer').textContent"
    )
    assert answer in ("good", "sport", "tech")
    assert browser.run("document.querySelector('#labels .given bdi').textContent") == answer
    assert browser.until("document.querySelectorAll('.word').length >= 2")
    shares = browser.run(
        "[...document.querySelectorAll('#labels output')].map(o => parseFloat(o.textContent))"
    )
    assert sum(shares) == pytest.approx(100, abs=0.3)
    widths = browser.run(
        "[...document.querySelectorAll('.fill')].map(f => f.style.getPropertyValue('--p'))"
    )
    assert [100 * float(w) for w in widths] == pytest.approx(shares, abs=0.06)
    browser.type(" é <b onclick=alert(1)>x</b>")  # is text
    browser.until("[...document.querySelectorAll('.word')].some(w => w.textContent === 'é')")
    assert browser.run("document.querySelectorAll('#words b').length") == 0
    assert browser.run("document.getElementById('answer').getAttribute('aria-live')") == "polite"
    assert browser.run(
        "[...document.querySelectorAll('textarea, button')].every(e => e.textContent || e.labels.length)"
    )
    browser.press(*TAB)
    assert browser.run(FOCUS) == "clear"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(*ENTER)
    browser.until(
        "document.getElementById('text').value === '' && !document.querySelector('#labels li')"
    )
    assert browser.run(FOCUS) == "text"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert {url.rpartition("/")[0] for url in browser.requested()} == {served.url}
    assert browser.complaints() == []


def test_refusals_and_a_server_that_is_gone_are_shown(browser, runs):
    server = Served(runs / "one", "--max-bytes", "60", "--max-explained", "5")
    browser.open(server.url)
    browser.until("document.title === 'one · dlnotes'")
    browser.type("a" * 80)
    browser.until("document.getElementById('state').textContent.includes('at most 60 bytes')")
    browser.until("document.getElementById('method').textContent.includes('at most 5 characters')")
    server.stop()
    browser.type("b")
    browser.until("document.getElementById('state').textContent === 'The server does not answer.'")
