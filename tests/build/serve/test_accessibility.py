"""What axe, the linter of accessibility, finds on the pages: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ANSWER = """# 标题

一个*段落*，有[链接](https://example.com)、`代码`和公式 $x^2$。

| 名称 | 数值 |
|---|---|
| 一 | 1 |

```python
print("你好")  # 注释
```
"""


def findings(page: Page) -> str:
    """Return what axe finds on a page, "" for nothing."""
    results = Axe().run(page)
    assert results.response["passes"]
    return results.generate_report() if results.violations_count else ""


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(
    chromium: Browser, served: Served, scheme: Literal["light", "dark"], width: int
) -> None:
    page = chromium.new_page(
        color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    )
    page.goto(f"http://127.0.0.1:{served.port}/")
    assert findings(page) == ""
    page.fill("#question", ANSWER)
    page.keyboard.press("Enter")
    page.wait_for_selector(".note:has-text('token')")
    page.wait_for_selector("li.assistant :is(pre, table, math)")
    assert findings(page) == ""
    page.click("#open-settings")
    assert findings(page) == ""
    page.close()


def test_axe_finds_nothing_on_the_page_of_the_api(chromium: Browser, served: Served) -> None:
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/docs")
    page.wait_for_selector("summary")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert findings(page) == ""
    page.close()
