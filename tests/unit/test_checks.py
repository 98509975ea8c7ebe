# ruff: noqa: E501 - answers are quoted whole
"""Every check on right, wrong and tricky answers."""

import ast
import itertools
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.answers import questions
from entrypoint.answers.questions import Checker, Point, Question
from entrypoint.answers.results import Answer, RecordedTurn, Run
from entrypoint.compare import checks, points
from entrypoint.compare.checks import Check
from entrypoint.compare.points import Reading
from entrypoint.engines import Usage

TEN = {question.id: question for question in questions.load()}
DICE = TEN["dice"].checker or Checker("python-program", prints="no checker")


def read(point: Point, text: str) -> Reading:
    (reading,) = points.read([point], text)
    return reading


# Which of a question's points an answer makes, in order, a "?" where nothing is sure; the answers of the tutorial's own two
# models are marked with their names.
POINTS = [
    (
        "winter-and-summer",
        "11",
        "冬天天冷，意思是尽量多穿；夏天天热，意思是能少穿就少穿。",
        "冬天：能穿多少穿多少，意思是尽可能地多穿衣服保暖。夏天：能穿多少穿多少，意思是穿得越少越好。",
        "前者是说穿得越多越好，后者是说穿得越少越好。",
        "冬天的“多少”强调“多”，要多穿；夏天的“多少”强调“少”，要穿得少一些。",
        "第一句强调多穿衣服保暖，第二句强调尽量少穿以求凉快。",
    ),
    (
        "winter-and-summer",
        "10",
        # CHATGLM
        "这两句话都在描述穿衣的数量，但它们的语气和表达方式不同。冬天强调的是要尽量多穿衣服以保暖，所以用了“能穿多少穿多少”的表述；而夏天则强调的是要透气舒适，所以用了“能穿多少穿多少”的表述。",
        # QWEN
        "第一句话“冬天：能穿多少穿多少”暗示着在寒冷的冬季，人们需要尽可能多地穿上衣服来保暖。而第二句话“夏天：能穿多少穿多少”则表示在炎热的夏季，人们也需要尽可能地穿上衣服以防止过度出汗和中暑。因此，这两句话所表达的意思是相反的。",
    ),
    (
        "winter-and-summer",
        "00",
        "这两句话的意思是一样的，都是能穿多少穿多少，冬天多穿，夏天少穿没有区别。",
        "冬天：能穿多少穿多少；夏天：能穿多少穿多少。两句话的季节不同。",
        "夏天至少要穿一件，冬天也要穿不少。",
        "冬天要尽量少穿，夏天要尽量多穿。",
    ),
    (
        "single",
        "11",
        "一是他谁都看不上，也就是自己看不上任何人；二是谁都看不上他。",
        "第一个是眼光太高，看不上别人；第二个是别人都看不上他。",
        "前一个“谁都看不上”是说单身狗看不上别人，后一个是说没有人看得上单身狗。",
        "一个是自己太挑剔，另一个是缺乏吸引力，没人喜欢。",
    ),
    ("single", "10", "单身的人要求过高，对谁都不满意，两句的意思相同。"),
    ("single", "01", "两句话都是说，大家都看不上他。"),
    (
        "single",
        "00",
        # CHATGLM
        "第一句话中使用了“谁看不上”这个短语，强调了单身狗的孤独和无助，而第二句话中没有使用这个短语。",
        # QWEN
        "这两句话在表达的意思上是相同的。第一句话：“单身狗产生的原因有两个，一是谁都看不上，二是谁都看不上。”这句话使用了并列的结构。",
    ),
    (
        "who-does-not-know",
        "1",
        "他。",
        "不知道的人是“他”。",
        "这句话里，“你知道他不知道”，所以到底是他不知道。",
        "最里层是“他不知道”，也就是说，不知道的是他。",
        "答案：**他**",
        "按层次拆开：他知道（我知道（你知道（他不知道）））吗？所以，是他不知道。",
    ),
    (
        "who-does-not-know",
        "0",
        # QWEN
        "在这句话中，“他”是未知的。因此，可以理解为“他知道我知道你知道他不知道”，即“他”知道“我们知道他知道他不知道”。",
        "不知道的是我。",
        "是你不知道。",
        "这句话是：他知道我知道你知道他不知道吗？这是一个复杂的句子。",
        "是他们不知道的人太多。",
    ),
    (
        "who-does-not-know",
        "?",
        # CHATGLM
        "在这个问题中，“他”是指一个人。我们无法确定“他”是否知道您知道的事情。而“我不知道”表示这个人不知道您所知道的事情。因此，在这个情境下，“我不知道”代表“他”不知道您知道的事情。",
    ),
    (
        "mingming-and-baibai",
        "1",
        "白白喜欢他。",
        "白白喜欢明明。",
        "“明明”心里明白“白白”喜欢他，可是她不说。所以是白白喜欢他。",
        "断句：明明 / 明明 / 明白 / 白白 / 喜欢 / 他，可她就是不说。",
        "明明明明明白，白白喜欢他。",
        "是白白喜欢明明，而不是明明喜欢白白。",
        "**白白**暗恋着他，而明明清楚地知道这一点。",
    ),
    (
        "mingming-and-baibai",
        "0",
        # CHATGLM
        "根据句子中的信息，无法确定明明和白白之间谁喜欢谁。可能是明明喜欢白白，也可能是白白喜欢明明。",
        # QWEN
        "根据句子中的描述，“明明明明明白白白喜欢他”，可以推断出“明明”喜欢“他”。因此，在这句话中，“明明”喜欢“他”。",
        "明明喜欢白白。",
        "明明和白白互相喜欢。",
        "明明明明明白白白喜欢他，可她就是不说。这是一个绕口令。",
        "是明明喜欢白白，白白喜欢别人。",
    ),
    (
        "yisi",
        "111111",
        "1. 你这是什么意思：问对方的意图。2. 意思意思：送点礼物，表示一点心意。3. 不够意思：不够朋友。4. 小意思：不值一提的小礼物。5. 有意思：有趣。6. 没有别的意思：没有别的目的。7. 不好意思：客气地收下，感到抱歉。",
    ),
    # QWEN
    (
        "yisi",
        "000011",
        "因此，“意思”的含义分别是：话语的内容、没有意义或价值、不尊重、有趣、真实的意思、感到尴尬、抱歉。",
    ),
    ("yisi", "000000", "“意思”在这段对话中都是意思的意思，没什么意思，意思意思，小意思。"),
    (
        "deep-learning",
        "1111",
        "深度学习是机器学习的一种，用多层神经网络自动从数据中学习特征。图像识别多用卷积神经网络（CNN），例如人脸识别。",
    ),
    (
        "deep-learning",
        "1101",
        # QWEN
        "深度学习是一种机器学习技术，它使用多层神经网络来模拟人脑的思维过程。它可以自动从数据中提取特征。例如，我们可以使用深度学习模型来识别猫、狗、汽车等物体。",
    ),
    ("deep-learning", "0000", "深度学习就是努力学习，一层一层地深入，它让电脑很聪明。"),
    (
        "liar-paradox",
        "111",
        "假设这句话是真的，那么它说的内容成立，所以它是假的；假设这句话是假的，那么它说的不对，所以它是真的。两种情况都矛盾。",
        "如果“这句话是假的”为真，那么它就是假的。反之，若它为假，则它所说的不成立，于是它为真。这是自相矛盾的。",
        # QWEN
        "如果这个陈述是真的，那么它就是假的，这与我们的初始陈述相矛盾。然而，如果我们认为这个陈述是假的，那么它又是真的，这也与我们的初始陈述相矛盾。",
    ),
    (
        "liar-paradox",
        "100",
        # CHATGLM
        "因为如果这句话是真的，那么它就意味着“这句话是假的”，这会导致自相矛盾的结果。所以，“这句话是假的”是一个悖论。",
        "如果“这句话是假的”是真的，那么它是假的，矛盾。",
    ),
    ("liar-paradox", "000", "“这句话是假的”是一个悖论，因为它很有意思，让人思考真与假。"),
    (
        "bayes",
        "111",
        "P(A|B) = P(B|A) * P(A) / P(B)。先验概率被更新为后验概率。例如，医生根据检测结果判断病人是否患病。",
        "P(A∣B)=(P(B∣A)P(A))/P(B)，有了新的证据，就修正原来的概率。比如诊断疾病。",
    ),
    (
        "bayes",
        "1?1",
        r"公式为 $$P(A|B) = \frac{P(B|A) \cdot P(A)}{P(B)}$$ 其中 P(A) 是先验概率。比如垃圾邮件过滤。",
        r"\[ P(H \mid E) = \frac{P(E \mid H) P(H)}{\sum_i P(E \mid H_i) P(H_i)} \] 后验概率。例如天气预报。",
        "P(A∣B)=(P(B∣A)P(A))/P(B)，A 的先验概率是 P(A)。比如诊断疾病。",
    ),
    (
        "bayes",
        "101",
        "P（患病|阳性）=P（患病）×P（阳性|患病）÷P（阳性）。已知检测为阳性，求患病的概率。例如体检。",
    ),
    (
        "bayes",
        "001",
        # CHATGLM
        "它描述了在给定一定条件下，两个随机变量之间的条件概率。P(X=x)=∑y P(Y=y|X=x)P(X=x)。例如医学诊断。",
    ),
    (
        "bayes",
        "0?1",
        "P(A|B) = P(A|B) * P(B) / P(A)，先验概率。例如医学诊断。",
        "P(A|B) = P(B|A) * P(B) / P(A)，先验概率。例如医学诊断。",
        "P(A|B) = P(A∩B) / P(B) 是条件概率的定义，先验概率。例如医学诊断。",
    ),
    ("bayes", "000", "贝叶斯定理是一个有名的数学定理，由英国人贝叶斯提出，应用很广。"),
    (
        "satellites",
        "111",
        "地球自西向东自转，向东发射可以利用地表的线速度作为初速度，从而节省燃料。",
        "地球由西向东旋转，火箭在发射前已随地面向东运动，借助这个惯性可以少用推进剂。",
    ),
    (
        "satellites",
        "101",
        # QWEN
        "主要是因为地球的自转方向是从西向东。如果向东发射，那么它可以使用较低的发射速度，从而节省燃料。",
    ),
    (
        "satellites",
        "000",
        # CHATGLM
        "大多数卫星都是向东发射，是因为重力作用。为了使卫星能够克服重力并保持轨道，需要将卫星向东发射，这样卫星的机械能才能增加，以克服地球引力。",
    ),
    ("satellites", "001", "地球自东向西自转，所以向东发射节省燃料。"),
]


@pytest.mark.parametrize(
    ("question", "expected", "text"),
    [(question, marks, text) for question, marks, *texts in POINTS for text in texts],
)
def test_what_an_answer_says_is_found_in_many_wordings(
    question: str, expected: str, text: str
) -> None:
    readings = points.read(TEN[question].points, text, TEN[question].text)
    found = "".join({"met": "1", "open": "?"}.get(each.outcome, "0") for each in readings)
    assert found == expected, readings


def test_an_empty_answer_makes_no_point() -> None:
    for question in TEN.values():
        assert {each.outcome for each in points.read(question.points, " \n")} == {"left out"}


def test_a_point_without_patterns_is_left_to_a_judge() -> None:
    assert points.read([Point("It is funny.")], "Ha!") == (Reading("open"),)


def test_what_must_not_be_said_counts_first_and_is_quoted() -> None:
    point = Point("It is 7.", must="7|seven", never="not (?:7|seven)", maybe="odd")
    assert read(point, "SEVEN") == Reading("met", "SEVEN")
    assert read(point, "It is not seven.") == Reading("opposite", "not seven")
    assert read(point, "8") == Reading("left out")
    assert read(point, "It is odd.") == Reading("open", "odd")
    assert read(Point("no 8", never="8"), "7") == Reading("met")


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("他不知道。", "met"),
        ("“他不知道”是一个从句。", "open"),  # a part of the question, quoted
        ("题目是他知道我知道你知道他不知道吗", "open"),  # and all of it
        ("我不明白。", "left out"),
    ],
)
def test_what_only_repeats_the_question_is_not_said(text: str, outcome: str) -> None:
    asked = "他知道我知道你知道他不知道吗？这句话里，到底谁不知道？"
    (reading,) = points.read([Point("他不知道。", must="他不知道")], text, asked)
    assert reading.outcome == outcome


def test_what_the_question_itself_quotes_may_be_quoted() -> None:
    asked = "为什么“这句话是假的”是一个悖论？"
    (reading,) = points.read([Point("假。", must="假")], "它说的是“这句话是假的”。", asked)
    assert reading.outcome == "met"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("It turns.", "met"),
        ("If it turns, we see it.", "open"),
        ("If we look, it turns.", "met"),
        ("Perhaps it turns.", "open"),
        ("So it turns?", "open"),
        ("It stands still.", "opposite"),
        ("It turns. No, it stands still.", "opposite"),
        ("它自转，又没有自转。", "open"),
        ("如果它没有停下，它就自转。", "met"),
    ],
)
def test_a_claim_is_met_only_where_it_is_asserted(text: str, outcome: str) -> None:
    claim = Point("It turns.", must="turns|自转", never="stands still|停下")
    assert read(claim, text).outcome == outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("先想一想。是白白喜欢他。", "met"),
        ("白白喜欢他？所以答案是明明。", "open"),
        ("白白喜欢他。这是一个从句。所以不好说。", "open"),
        ("不好说。", "left out"),
        ("。", "left out"),
    ],
)
def test_what_the_question_asks_for_is_said_in_the_last_sentence(text: str, outcome: str) -> None:
    assert read(Point("白白。", must="白白喜欢", last=True), text).outcome == outcome


def test_a_cue_holds_until_the_next_points_or_the_end_of_the_sentence() -> None:
    winter = Point("more", about="winter", must="more", never="less")
    summer = Point("less", about="summer", must="less", never="more")
    told = "In winter you wear more, in summer less. More is better."
    assert [each.outcome for each in points.read((winter, summer), told)] == ["met", "met"]
    assert read(winter, "In winter it is cold. Wear more!") == Reading("left out")
    assert read(winter, "Winter means less.") == Reading("opposite", "less")


def test_a_point_that_needs_others_is_met_with_them_only() -> None:
    both = (Point("a", must="a", maybe="x"), Point("both", must="both", needs=(1,)))
    assert points.read(both, "both")[1].outcome == "left out"
    assert points.read(both, "both, a")[1].outcome == "met"
    assert points.read(both, "both, x")[1].outcome == "open"


@pytest.mark.parametrize(
    ("wanted", "text", "expected"),
    [
        ("zh", "深度学习用神经网络。", True),
        ("zh", "The answer is 42, of course.", False),
        ("zh", "卷积神经网络（convolutional neural network, CNN）是一种网络。", True),
        ("zh", "Of course! Here is the answer: 你好, my dear friend and colleague.", False),
        ("zh", "程序如下：\n```python\nimport random\nprint(random.randint(1, 6))\n```", True),
        (
            "zh",
            "程序如下：\nimport random\nfor each in range(9):\n    print(random.random())\n",
            True,
        ),
        ("zh", "これは日本語の答えです。漢字も使います。", False),
        ("zh", "", False),
        ("en", "It rolls a die.", True),
        ("en", "它掷骰子。", False),
        ("en", "```\n# 掷骰子\n```\nIt rolls a die.", True),
    ],
)
def test_the_language_is_that_of_the_prose(wanted: str, text: str, expected: bool) -> None:
    assert checks.language(wanted, text)[0] is expected


STUCK = "我们需要考虑所有的可能性和所有的条件，" * 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("每一句都说出了一件新的事情，因此并没有什么重复的地方，读起来也很顺。", True),
        ("好的好的好的", True),
        (f"深度学习是一种方法。{STUCK}", False),
        ("哈" * 100, False),
        ("the cat sat on the mat and " * 20, False),
        ("- 一：苹果是一种水果。\n- 二：香蕉是一种水果。\n- 三：西瓜也是一种水果。\n", True),
        ("| 甲 | 乙 |\n|----------|----------|\n| 1 | 2 |\n" + "-" * 200, True),
        ("", False),
        ("-----", False),
    ],
)
def test_a_model_that_is_stuck_is_told_from_one_that_lists(text: str, expected: bool) -> None:
    assert checks.repetition(text)[0] is expected


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("说完了", "stop", True),
        ("说完了。", "length", False),
        ("", "stop", False),
        ("说到一", "error", False),
        ("白白喜欢明明", "", True),
        ("这是一个很长的回答，" * 9 + "它说完了。", "", True),
        ("这是一个很长的回答，" * 9 + "从而实现图片", "", False),
        ("这是一个很长的回答，" * 9 + "\nprint(roll_dice", "", None),
    ],
)
def test_an_answer_that_was_cut_off_is_told(
    text: str, finish_reason: str, expected: bool | None
) -> None:
    assert checks.whole(text, finish_reason)[0] is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nprint(1)\n```", True),
        ("- 程序：\n  ```\n  print(1)\n  ```", True),
        ("```python\nprint(1)", False),
        ("print(1)", False),
        ("用 `print` 输出。", False),
    ],
)
def test_a_block_of_code_has_a_beginning_and_an_end(text: str, expected: bool) -> None:
    assert checks.code_block(text)[0] is expected


FENCED = "程序：\n```python\nimport random\nprint(random.randint(1, 6))\n```\n它输出 1 到 6。"
TUTORIAL = """以下是一个使用Python编写的简单程序，用于模拟掷骰子的结果：

import random

def roll_dice():
    \"\"\"
    模拟掷骰子的结果。

    返回值：
        一个整数，表示掷骰子的结果（1到6）
    \"\"\"
    return random.randint(1, 6)

# 测试
print(roll_dice())

在这个程序中，我们导入了`random`模块，以便生成随机数。"""


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (FENCED, "import random\nprint(random.randint(1, 6))"),
        ("没有程序。", ""),
        ("- 一：\n  ```py\n  x = 1\n  print(x)\n  ```", "x = 1\nprint(x)"),
        ("```python\ndef f():\n    return 4\n```\n然后：\n```python\nprint(f())\n```\n输出：\n```\n4\n```",
         "def f():\n    return 4\nprint(f())\n4"),
        ("```bash\npip install dice\n```\n```python\nprint(4)\n```", "print(4)"),
        ("```python\nprint(random.randi", "print(random.randi"),
    ],
)  # fmt: skip
def test_the_program_is_found(text: str, program: str) -> None:
    assert checks.extract(text).strip() == program


def test_a_program_without_a_block_is_found_between_the_lines() -> None:
    program = checks.extract(TUTORIAL)
    assert program.startswith("import random\n\ndef roll_dice():")
    assert program.endswith("print(roll_dice())")


def _runs(text: str) -> Iterator[str]:
    """Yield all runs of lines that are Python and begin like it, by trying all there are."""
    lines = text.splitlines()
    for start, end in itertools.combinations(range(len(lines) + 1), 2):
        run = lines[start:end]
        with suppress(SyntaxError):
            if checks.OPENING.match(run[0]) and ast.parse("\n".join(run)).body:
                yield "\n".join(run).rstrip()


@given(
    st.lists(
        st.sampled_from(
            (
                *("import random", "def f():", "if x:", "else:", "x = 1", "@cache", "x = ["),
                *("    return 4", "    说明（见下", "        y = 2", "    1,", "]", ""),
                *("# note", "说明：如下。", "don't", "(see below", "print(f'{x}')"),
            )
        ),
        max_size=9,
    ).map("\n".join)
)
def test_a_program_between_the_lines_is_the_longest_there_is(text: str) -> None:
    longest = max(_runs(text), key=lambda run: len(run.splitlines()), default="")
    assert checks.extract(text) == longest


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"x{number} = (" for number in range(10_000)),
        "\n".join(f"x{number} = \\" for number in range(10_000)),
        "\n".join(f"x{number} = '''" for number in range(10_000)),
        "print(n)\n" * 5000 + "接下来说明这个程序。\n" * 5000,
        "print(n)\n这一行不是程序(\n" * 5000,
        ("x = (\n" * 50 + ")\n" * 50) * 100,
        "def f():\n" + "    x = 1\n" * 10_000,
        "x = 1\n" + "# nothing\n" * 10_000,
        "```" + "a" * 100_000,
    ],
)
def test_the_work_grows_no_faster_than_the_text(text: str) -> None:
    begun = time.process_time()
    checks.extract(text)
    assert time.process_time() - begun < 10  # about 1 s at most; minutes if tried line by line


@pytest.mark.parametrize(
    "text",
    [
        FENCED,
        TUTORIAL,
        "```python\nimport random\nprint(f'你掷出了 {random.randint(1, 6)} 点！')\n```",
        "```python\nimport random\nprint('Result:', random.choice([1, 2, 3, 4, 5, 6]))\n```",
        "```python\nimport random\nn = int(input('掷几次（1-6）？'))\nfor i in range(n): print(f'第{i + 1}次：{random.randint(1, 6)}')\n```",
        "```python\nimport random\nwhile True:\n    input('按回车键')\n    print(random.randint(1, 6))\n```",
        "```python\nimport secrets\nprint(secrets.randbelow(6) + 1)\n```",
    ],
)
def test_a_program_that_throws_dice_passes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RUNS", 2)  # that it takes more is tested with wrong programs
    assert checks.program(DICE, text)[0] is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("骰子有六个面，每面的机会相同。", "There is no program."),
        ("```python\nimport random\nprint(random.randint(0, 5))\n```", "It prints: 0"),
        ("```python\nimport random\nprint(random.randint(1, 7))\n```", "It prints: 7"),
        ("```python\nimport random\nprint(random.random() * 6)\n```", "It prints: "),
        ("```python\nprint('请输入 1-6 或 1 到 6')\n```", "It prints: 请输入"),
        ("```python\nimport random\ndef roll(): return random.randint(1, 6)\n```", "It prints: "),
        ("```python\nprint(random.randint(1, 6))\n```", "NameError"),
        ("```python\nimport random\nprint(random.randint(1, 6\n```", "SyntaxError"),
        ("```python\nimport os\nos.system('echo 4')\n```", "It prints: "),
        ("```python\nimport os\nos.write(2, b'nowhere')\nos._exit(97)\n```", "nowhere"),
        ("```python\nraise ModuleNotFoundError('numpy')\n```", "ModuleNotFoundError: numpy"),
    ],
)
def test_a_program_that_does_not_fails_and_says_why(text: str, why: str) -> None:
    passed, told = checks.program(DICE, text)
    assert passed is False
    assert told.startswith(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```python\nimport pygame\nprint(4)\n```", "needs what is not here: .*pygame"),
        ("```js\nconsole.log(Math.floor(Math.random() * 6) + 1);\n```", "another language"),
        ('```c\n#include <stdio.h>\nint main() { printf("4"); }\n```', "another language"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_run_here_is_not_counted(text: str, why: str) -> None:
    passed, told = checks.program(DICE, text)
    assert passed is None
    assert why.split(": ", maxsplit=1)[0].split(".*", maxsplit=1)[0] in told


def test_a_program_that_goes_on_for_ever_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.sandbox, "PATIENCE", 1)
    monkeypatch.setattr(checks, "RUNS", 10_000)
    text = "```python\nimport time\nprint(4, flush=True)\ntime.sleep(99)\n```"
    assert checks.program(DICE, text) == (True, "It prints: 4")


def test_a_slow_program_is_run_as_often_as_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ENOUGH", 1)
    monkeypatch.setattr(checks, "RUNS", 10_000)
    text = "```python\nimport time\ntime.sleep(.4)\nprint(4)\n```"
    begun = time.monotonic()
    assert checks.program(DICE, text) == (True, "It prints: 4")
    assert time.monotonic() - begun < 60


@pytest.mark.usefixtures("once")
def test_what_is_typed_to_the_program_is_the_checkers_choice() -> None:
    echo = Checker("python-program", prints="^你好 7$", input="7\n")
    assert checks.program(echo, "```python\nprint('你好', input())\n```")[0] is True


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RUNS", 1)


def answer(text: str, *, reason: str = "stop", error: str = "") -> Answer:
    usage = Usage(1, 0, 1, 0.1, 1.0, reason)  # type: ignore[arg-type]
    turns = (RecordedTurn("早？", "早。"), RecordedTurn("问？", text, usage, 1.0))
    return Answer("q", turns, Run("m", "e"), error=error)


QUESTION = Question(
    id="q",
    turns=("早？", "问？"),
    dimensions=("logic", "hard"),
    language="zh",
    format="code",
    points=(Point("七", must="7"), Point("好笑")),
    checker=Checker("python-program", prints="7"),
)


@pytest.mark.usefixtures("once")
def test_all_that_a_question_asks_for_is_checked_and_counts_for_its_dimensions() -> None:
    found = checks.check(QUESTION, answer("好的：\n```python\nprint(7)\n```"))
    assert [(each.kind, each.passed, each.dimensions) for each in found] == [
        ("point", True, ("logic", "hard")),
        ("point", None, ("logic", "hard")),
        ("program", True, ("logic", "hard")),
        ("format", True, ("form",)),
        ("language", True, ("form",)),
        ("repetition", True, ("form",)),
        ("whole", True, ("form",)),
    ]
    assert found[0] == Check(
        "point", "七", passed=True, why="It says: 7", dimensions=("logic", "hard")
    )


def test_a_question_without_wishes_is_checked_for_what_all_answers_must_be() -> None:
    found = checks.check(Question("q", "?"), answer("Fine."))
    assert [each.kind for each in found] == ["repetition", "whole"]


def test_an_answer_that_failed_passes_nothing() -> None:
    found = checks.check(QUESTION, answer("", error="too long"))
    assert not any(each.passed for each in found)


@pytest.mark.parametrize(
    ("asked", "text", "again"),
    [
        (TEN["single"].text, TEN["single"].text, True),
        (TEN["single"].text, "两句话的区别在于，" + TEN["single"].text[15:], True),
        (TEN["yisi"].text, TEN["yisi"].text[:60], True),
        (TEN["who-does-not-know"].text, "不知道的是他。", False),
        (TEN["who-does-not-know"].text, "他。", False),
        (TEN["who-does-not-know"].text, "", False),
        (TEN["dice"].text, "```python\nimport random\nprint(random.randint(1, 6))\n```", False),
        ("What is the capital of France?", "The capital of France is Paris.", False),
    ],
)
def test_an_answer_that_repeats_the_question_is_none(asked: str, text: str, *, again: bool) -> None:
    question = Question("a", text=asked, language="zh", points=(Point("it", must="Paris"),))
    answer = Answer("a", (RecordedTurn(asked, text),), Run("m", "e"))
    found = checks.check(question, answer)
    assert all(each.why == "It only repeats the question." for each in found) is again
    assert again <= (not any(each.passed for each in found))


def test_a_question_does_not_answer_itself() -> None:
    for question in TEN.values():
        assert "met" not in {each.outcome for each in points.read(question.points, question.text)}


def test_a_printed_answer_is_not_blamed_for_the_fences_that_print_takes_away() -> None:
    question = Question("a", text="Write a program.", format="code")
    answer = Answer("a", (RecordedTurn("Write a program.", "print(1)"),), Run("m", "import"))
    verdicts = [each.passed for each in checks.check(question, answer) if each.kind == "format"]
    assert verdicts == [None]


def test_the_tutorials_questions_ask_for_no_fence() -> None:
    assert not [question.id for question in TEN.values() if question.format]


@pytest.mark.parametrize(
    ("right", "text", "passed"),
    [
        ("B", "B", True),
        ("B", "**B. 北京**", True),
        ("B", "答案：B", True),
        ("B", "A 不对，所以应该选择 B。", True),
        ("B", "The correct answer is (B), because A is in the south.", True),
        ("B", "北京", True),
        ("B", "选项A是上海，选项B是北京，因此答案是B。", True),
        ("B", "A", False),
        ("B", "答案是A。", False),
        ("B", "The answer is not A but C.", False),
        ("B", "A或B", None),
        ("B", "答案是A。不，答案是B。", None),
        ("B", "I don't know.", False),
        ("B", "不知道", False),
        ("B", "", False),
        ("AC", "A, C", True),
        ("AC", "答案：C、A", True),
        ("AC", "AC", True),
        ("AC", "A", False),
        ("AC", "答案是ABC", False),
    ],
)
def test_a_choice_is_read_by_its_letter(right: str, text: str, passed: bool | None) -> None:
    assert checks.choice(right, ("上海", "北京", "广州", "深圳"), text)[0] is passed


@pytest.mark.parametrize("text", ["42", "7.5°", "59", "```python\nprint(1)\n```"])
def test_numbers_and_code_are_of_no_language(text: str) -> None:
    assert checks.language("en", text)[0] is None
    assert checks.language("zh", text)[0] is None
