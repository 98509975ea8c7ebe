"""A person at the page, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from entrypoint.common.catalog import SamplingAdvice
from entrypoint.common.errors import MessageTooLong
from entrypoint.serve.keys import Keys
from tests.contrast import contrast
from tests.served import Served, model, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HTML = "<img src=x onerror=alert(1)> <b>bold</b> <script>alert(2)</script> **strong** `code`"


@pytest.fixture
def slow() -> Iterator[Served]:
    """Return a server whose engine waits for `go`."""
    with serving(halted=True) as running:
        yield running


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Page]:
    """Return a new person's page; whatever went wrong in it fails the test."""
    context = chromium.new_context(viewport={"width": 390, "height": 800}, locale="zh-CN")
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("http://127.0.0.1:")] == []


def ask(page: Page, text: str) -> None:
    page.fill("#question", text)
    page.keyboard.press("Enter")


def last(page: Page) -> str:
    return page.locator("li.assistant .text").last.inner_text()


def test_a_person_types_and_reads_and_finds_it_again_after_a_reload(
    served: Served, open_page: Page
) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    assert page.locator("#empty h1").inner_text() == "有什么可以帮您？"
    page.fill("#question", "第一行")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("第二行")
    page.keyboard.press("Enter")
    page.wait_for_selector("#send:visible")
    page.wait_for_selector(".note:has-text('词元')")
    assert last(page) == "第一行\n第二行"
    page.reload()
    assert last(page) == "第一行\n第二行"
    page.click("#language")
    assert page.get_attribute("#question", "placeholder") == "Ask anything"
    page.keyboard.press("Alt+n")
    assert page.locator("li.assistant").count() == 0
    page.click("#open-sidebar")
    page.click(".chat")
    assert last(page) == "第一行\n第二行"


def test_an_answer_has_the_models_own_temperature_unless_the_person_sets_one(
    open_page: Page,
) -> None:
    page = open_page
    with serving(model("polly", "llamacpp", SamplingAdvice(temperature=0.6))) as served:
        page.goto(f"http://127.0.0.1:{served.port}/")
        for count, typed in enumerate(("", "0", "1.25", "9", "")):
            page.click("#open-settings")
            page.fill("#temperature", typed)
            page.keyboard.press("Escape")
            ask(page, "你好")
            page.locator(".note:has-text('词元')").nth(count).wait_for()
            page.wait_for_selector("#send:visible")
        temperatures = [options.temperature for _prompt, options in served.engine.asked]
        assert temperatures == [0.6, 0, 1.25, 2, 0.6]


def test_html_in_an_answer_is_text(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, HTML)
    page.wait_for_selector("li.assistant strong")
    assert page.locator("li.assistant strong").inner_text() == "strong"
    assert page.locator("li.assistant code").inner_text() == "code"
    assert "<img src=x onerror=alert(1)> <b>bold</b> <script>" in last(page)
    assert page.locator("li.assistant :is(img, b, script)").count() == 0


def test_links_lead_to_the_web_only_and_code_is_coloured(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, "[good](https://example.org/) [bad](javascript:alert(1))\n```python\nreturn 1\n```")
    page.wait_for_selector("li.assistant .keyword")
    assert page.locator("li.assistant .keyword").inner_text() == "return"
    assert page.locator("li.assistant a").evaluate_all("all => all.map(a => a.href)") == [
        "https://example.org/"
    ]


RICH = r"""# One
***both***，见 https://example.org/b_c?q=1。然后（http://a.example/路）。
- [ ] open
- [x] done
  1. nested
     - deeper

    \[not code\]

行内 \(a^2\)，以及
\[
\frac{1}{3}
\]
$$x < y$$
和 \(\wrong{\) 与 \(没有结尾"""
SHOWN = {
    "h2": ["One"],
    "em > strong": ["both"],
    "a": ["https://example.org/b_c?q=1", "http://a.example/路"],
    ".task .mark": ["☐ ", "☑ "],
    "ul ol ul > li": ["deeper"],
    "math msup": ["a2"],
    "math[display=block] mfrac": ["13"],
    "math[display=block] mo": ["<"],
    ".formula:not(:has(math))": [r"\(\wrong{\)"],
}


def test_an_answer_is_commonmark_with_formulas(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, RICH)
    page.wait_for_selector(".note:has-text('词元')")
    texts = "all => all.map(node => node.textContent)"
    shown = {tag: page.locator(f"li.assistant {tag}").evaluate_all(texts) for tag in SHOWN}
    assert shown == SHOWN
    assert last(page).endswith("(没有结尾")


GROWING = " ".join("`" * length for length in range(1, 400))


@pytest.mark.parametrize("text", ["[" * 32_000, GROWING, r"\(" * 16_000, "$$\n" * 10_000])
def test_hostile_markdown_is_shown_at_once(served: Served, open_page: Page, text: str) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    took = page.evaluate(
        """async (text) => {
          const { render } = await import("/page/markdown.js");
          const begun = performance.now();
          render(document.createElement("div"), text);
          return performance.now() - begun;
        }""",
        text,
    )
    assert took < 5000  # milliseconds; some 300 on two cores, and minutes in a row if it grew


def test_a_question_is_changed_asked_again_and_copied(served: Served, open_page: Page) -> None:
    page = open_page
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(f"http://127.0.0.1:{served.port}/")
    for number, text in enumerate(("one", "two"), 1):
        ask(page, text)
        page.wait_for_function(f"document.querySelectorAll('.assistant .note').length == {number}")
        page.wait_for_selector("#send:visible")
    page.locator("li.user").first.get_by_label("复制").click()
    page.fill("#question", "")
    page.focus("#question")
    page.keyboard.press("Control+v")
    assert page.input_value("#question") == "one"
    page.locator("li.user").first.get_by_label("修改此问题").click()
    assert page.input_value("#question") == "one"
    ask(page, "three")
    page.wait_for_selector("li.assistant p:text-is('three')")
    assert page.locator("li.user .text").all_inner_texts() == ["three"]
    page.wait_for_selector("#send:visible")
    page.locator("li.user").get_by_label("重新提问").click()
    page.wait_for_selector("#send:visible")
    page.wait_for_function("document.querySelectorAll('.assistant').length == 1")
    assert len(served.engine.asked) >= 4


def test_conversations_are_listed_at_once_renamed_sought_and_had_back(
    slow: Served, open_page: Page
) -> None:
    page = open_page
    page.set_viewport_size({"width": 1000, "height": 700})
    page.goto(f"http://127.0.0.1:{slow.port}/")
    ask(page, "first")
    assert page.locator(".chat").all_inner_texts() == ["first"]
    slow.engine.go.set()
    page.wait_for_selector(".note:has-text('词元')")
    page.keyboard.press("Alt+n")
    ask(page, "second")
    page.wait_for_selector(".note:has-text('词元')")
    page.hover("#chats li >> nth=0")
    page.locator("#chats").get_by_label("重命名").first.click()
    page.keyboard.type("苹果")
    page.keyboard.press("Enter")
    assert page.locator(".chat").all_inner_texts() == ["苹果", "first"]
    page.fill("#search", "second")
    assert page.locator(".chat").all_inner_texts() == ["苹果"]
    page.fill("#search", "")
    page.hover("#chats li >> nth=0")
    page.locator("#chats").get_by_label("删除").first.click()
    assert page.locator(".chat").all_inner_texts() == ["first"]
    page.click("#undo")
    page.reload()
    assert page.locator(".chat").all_inner_texts() == ["苹果", "first"]
    assert last(page) == "second"
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "苹果.md"
    assert "second" in download.value.path().read_text(encoding="utf-8")


def test_two_tabs_lose_nothing(served: Served, open_page: Page) -> None:
    one, address = open_page, f"http://127.0.0.1:{served.port}/"
    one.goto(address)
    two = one.context.new_page()
    two.goto(address)
    for page, text in ((one, "甲"), (two, "乙"), (one, "丙")):
        ask(page, text)
        page.wait_for_selector(f"li.assistant p:text-is('{text}')")
        page.wait_for_selector("#send:visible")
    two.reload()
    assert sorted(two.locator(".chat").all_text_contents()) == ["乙", "甲"]
    two.evaluate("document.querySelectorAll('.chat')[0].click()")
    assert two.locator("li.user .text").all_inner_texts() == ["甲", "丙"]


def test_enter_that_chooses_a_composed_word_does_not_send(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.fill("#question", "nihao")
    for facts in ("isComposing: true", "keyCode: 229"):
        page.evaluate(
            "document.getElementById('question').dispatchEvent(new KeyboardEvent("
            f"'keydown', {{key: 'Enter', bubbles: true, {facts}}}))"
        )
    assert page.locator("#messages li").count() == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("li.assistant")


def test_a_thought_is_shown_folded(served: Served, open_page: Page) -> None:
    page = open_page
    deltas = [{"reasoning_content": "嗯，"}, {"reasoning_content": "想。"}, {"content": "好。"}]
    events: list[dict[str, object]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    events.append({"choices": [], "usage": {"completion_tokens": 3}})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body))
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, "hi")
    page.wait_for_selector(".note:has-text('词元')")
    assert last(page) == "好。"
    assert page.locator(".thought").text_content() == "思考过程嗯，想。"
    assert not page.locator(".thought div").is_visible()


def test_a_missing_key_leads_to_the_settings_and_the_question_is_asked_again(
    chromium: Browser,
) -> None:
    with serving(keys=Keys("sesame", None)) as locked:
        page = chromium.new_page(locale="zh-CN")
        page.goto(f"http://127.0.0.1:{locked.port}/")
        ask(page, "hi")
        page.wait_for_selector("#settings[open]")
        assert page.locator(".note.failed").inner_text().startswith("此服务需要密钥")
        assert page.evaluate(FOCUSED) == "key"
        page.keyboard.type("wrong")
        page.keyboard.press("Escape")
        page.wait_for_selector(".note.failed:has-text('不认识此密钥')")
        page.wait_for_selector("#settings[open]")
        page.fill("#key", "sesame")
        page.keyboard.press("Escape")
        page.wait_for_selector(".note:has-text('词元')")
        assert page.locator("li.user .text").all_inner_texts() == ["hi"]
        page.close()


def test_what_the_server_refuses_is_told_in_the_language_of_the_page(chromium: Browser) -> None:
    with serving() as served:
        page = chromium.new_page(locale="zh-CN")
        served.engine.mishap = MessageTooLong("The message has 9 tokens too many.")
        page.goto(f"http://127.0.0.1:{served.port}/")
        ask(page, "hi")
        page.wait_for_selector(".note.failed:has-text('对话超出模型的上下文长度')")
        page.close()


def test_stop_ends_an_answer_and_the_next_one_comes(slow: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{slow.port}/api/predict/svc/")
    ask(page, "one two three")
    page.wait_for_selector("#stop:visible")
    page.keyboard.press("Escape")
    page.wait_for_selector(".note:has-text('已停止')")
    slow.engine.go.set()
    ask(page, "again")
    page.wait_for_selector(".note:has-text('词元')")
    assert last(page) == "again"


def test_it_fits_a_phone_and_has_a_light_and_a_dark_dress(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, "word " * 200 + "x" * 500 + " | a | b |\n|---|---|\n" + "| long | cell |\n" * 3)
    page.wait_for_selector(".note:has-text('词元')")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    for tag in page.locator("button:visible, select:visible, textarea:visible").all():
        assert tag.evaluate(
            "node => node.getAttribute('aria-label') || node.labels?.length"
            " || node.textContent.trim()"
        )


COLOURS = """([text, paper]) => {
  const node = document.body.appendChild(document.createElement("p"));
  node.className = "probe";
  const rules = new CSSStyleSheet();
  rules.replaceSync(`.probe { color: var(--${text}); background: var(--${paper}); }`);
  document.adoptedStyleSheets = [rules];
  const { color, backgroundColor } = getComputedStyle(node);
  node.remove();
  return [color, backgroundColor];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(
    served: Served, open_page: Page, scheme: Literal["light", "dark"]
) -> None:
    page = open_page
    page.emulate_media(color_scheme=scheme)
    page.goto(f"http://127.0.0.1:{served.port}/")
    texts = {
        "code": ("keyword", "string", "number", "call", "faint"),
        "mine": ("ink",),
        **dict.fromkeys(("page", "side", "card"), ("ink", "soft", "faint", "danger", "accent")),
    }
    for paper, over in texts.items():
        for text in over:
            colours = page.evaluate(COLOURS, [text, paper])
            assert contrast(*colours) >= 4.5, f"WCAG 2 AA: {text} on {paper}, {colours}"


LINES = """node => {
  const text = document.createRange();
  text.selectNodeContents(node);
  return text.getClientRects().length;
}"""


def test_on_a_phone_a_new_page_begins_at_its_top_and_its_buttons_have_one_line(
    served: Served, open_page: Page
) -> None:
    page = open_page
    page.set_viewport_size({"width": 360, "height": 600})
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.click("#language")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    page.evaluate("document.querySelector('#model option').textContent = 'Long'.repeat(20)")
    assert page.locator("#language").inner_text() == "中文"
    assert page.locator("#language").evaluate(LINES) == 1
    assert page.evaluate("document.getElementById('scroll').scrollTop") == 0


FOCUSED = "document.activeElement.id || document.activeElement.className"


def test_on_a_phone_the_keyboard_goes_through_the_conversations_and_back(
    served: Served, open_page: Page
) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    ask(page, "hi")
    page.wait_for_selector(".note:has-text('词元')")
    page.focus("#open-sidebar")
    page.keyboard.press("Enter")
    visited = []
    for _step in range(6):
        visited.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    assert visited == ["close-sidebar", "new", "search", "chat", "icon small", "icon small"]
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUSED) == "open-sidebar"
    page.keyboard.press("Enter")
    page.focus(".chat")
    page.keyboard.press("Enter")
    page.wait_for_selector("body:not(.sidebar)")
    page.focus("#question")
    assert page.evaluate(FOCUSED) == "question"


def test_settings_are_sent_and_kept(served: Served, open_page: Page) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.click("#open-settings")
    page.fill("#system", "be brief")
    page.fill("#max-tokens", "9")
    page.keyboard.press("Escape")
    ask(page, "hi")
    page.wait_for_selector(".note:has-text('词元')")
    prompt, options = served.engine.asked[-1]
    assert [turn["content"] for turn in prompt] == ["be brief", "hi"]  # type: ignore[index]
    assert options.max_tokens == 9
    page.reload()
    page.click("#open-settings")
    assert page.input_value("#system") == "be brief"


def test_the_model_that_is_chosen_answers_and_stays_chosen(open_page: Page) -> None:
    page = open_page
    with serving("polly", "jacko") as two:
        page.goto(f"http://127.0.0.1:{two.port}/")
        page.select_option("#model", "jacko")
        ask(page, "hi")
        page.wait_for_selector(".note:has-text('词元')")
        page.route("**/v1/models", lambda _route: None)  # the list takes its time
        page.reload()
        ask(page, "again")
        page.wait_for_function("document.querySelectorAll('.assistant .note').length == 2")
        page.wait_for_selector("#send:visible")
    assert {each.model: len(each.asked) for each in two.engines} == {"polly": 0, "jacko": 2}


def test_the_description_is_shown_in_the_language_and_dress_of_the_chat(
    served: Served, open_page: Page
) -> None:
    page = open_page
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.click("#open-settings")
    page.select_option("#theme", "dark")
    page.goto(f"http://127.0.0.1:{served.port}/docs")
    page.get_by_text("/v1/completions", exact=True).click()
    shown = page.locator("details[open]").inner_text()
    assert re.search(r"prompt \*", shown)
    assert "请求" in shown
    assert page.locator("#intro").inner_text().startswith("请求与 OpenAI 的 API 相同")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.evaluate("localStorage.setItem('llmdeploy.settings', JSON.stringify({language: 'en'}))")
    page.reload()
    page.wait_for_selector("#intro:has-text('The same requests')")
