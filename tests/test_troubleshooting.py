"""docs/troubleshooting.md quotes messages that the code can print, word by word."""

import ast
import re
from functools import cache

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
OURS, OF_OTHERS = PAGE.split("## Messages of other programs")
MIN_LETTERS = 10  # of the longest piece that is quoted: shorter ones stand anywhere


def messages(text: str) -> list[str]:
    """The first code of each row of a table."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


@cache
def texts() -> list[str]:
    """Every text in the code; where a value is filled in stands `...`, as on the page."""
    files = [*ROOT.glob("*.py"), *(ROOT / "lungct").rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    whole = ["".join(map(text_of, node.values)) for node in nodes if isinstance(node, ast.JoinedStr)]
    return whole + [text_of(node) for node in nodes if isinstance(node, ast.Constant)]


def text_of(node: ast.expr) -> str:
    """A piece of a text as it stands in the code."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "..."


def pieces(message: str) -> list[str]:
    """What stands between the parts that differ."""
    return [piece.strip() for piece in message.split("...") if piece.strip()]


def test_the_page_has_messages_of_both_kinds():
    assert len(messages(OURS)) > 20
    assert len(messages(OF_OTHERS)) > 5


@pytest.mark.parametrize("message", messages(OURS))
def test_message_stands_in_the_code(message):
    assert max(map(len, pieces(message))) >= MIN_LETTERS
    in_this_order = re.compile(".*".join(map(re.escape, pieces(message))), re.DOTALL)
    assert any(map(in_this_order.search, texts()))


def test_a_message_that_nobody_prints_is_noticed():
    assert not any("holds no LIDC-IDRI-dddd directories" in text for text in texts())
