"""Markdown of an answer on a terminal: right however it is cut, and never taken back."""

import re

import pytest

from entrypoint.chat.markdown import LONGEST, Markdown

STYLE = re.compile(r"\x1b\[\d+m")
ANSWER = """\
## 冒泡排序 **稳定**

用 `sort` 也行；**相邻**的两数相比，2*3*4 次，a**b 不变。
* 一
```python
def sort(row):  # 原地
    return "x\\"y" + str(42)
```
~~~
```js
let a = 1; // 注释
```
最后 **没有写完"""


def styled(text: str, size: int) -> str:
    markdown = Markdown()
    pieces = [markdown.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(pieces) + markdown.feed("\n")


def test_titles_bold_words_and_code_are_told_apart() -> None:
    lines = styled(ANSWER, len(ANSWER)).splitlines()
    assert lines[0] == "\x1b[1m冒泡排序 稳定\x1b[22m"
    assert lines[2].startswith("用 \x1b[36msort\x1b[39m 也行；\x1b[1m相邻\x1b[22m的两数")
    assert lines[5] == "\x1b[94mdef\x1b[39m sort(row):  \x1b[2m# 原地\x1b[22m"
    assert lines[6].endswith('\x1b[32m"x\\"y"\x1b[39m + str(\x1b[35m42\x1b[39m)')
    assert lines[10].endswith("\x1b[2m// 注释\x1b[22m")


@pytest.mark.parametrize("size", range(1, 9))
def test_an_answer_looks_the_same_however_it_streams(size: int) -> None:
    assert styled(ANSWER, size) == styled(ANSWER, len(ANSWER))


def test_nothing_is_lost_but_the_marks() -> None:
    shown = STYLE.sub("", styled(ANSWER, 3))
    marks = ANSWER.replace("## ", "").replace("**稳定**", "稳定").replace("`sort`", "sort")
    assert shown == marks.replace("**相邻**", "相邻") + "\n"


def test_every_style_ends_in_the_piece_that_it_began_in() -> None:
    markdown = Markdown()
    for letter in ANSWER:
        assert len(STYLE.findall(markdown.feed(letter))) % 2 == 0


def test_words_are_written_as_they_come_and_a_mark_without_an_end_delays_them_but_a_while() -> None:
    markdown = Markdown()
    assert markdown.feed("天空") == "天空"
    assert markdown.feed(" **") == " "
    assert markdown.feed("蓝" * (LONGEST - 2)) == ""
    assert markdown.feed("蓝") == "**" + "蓝" * (LONGEST - 1)


def test_a_long_line_with_many_marks_is_read_once() -> None:
    text = "`a " * 20_000
    assert STYLE.sub("", styled(text, 4)) == text.replace("`", "") + "\n"
