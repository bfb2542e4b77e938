"""The text of a lung.conf: its sections, keys and values, with quotes and comments taken off.

A line is a section, a setting or a comment, wherever it begins; none goes on in the next one. Nothing is passed over:
what cannot be read for certain is a LungError that names file and line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lungct import LungError
from lungct.files import read_text

SECTION = re.compile(r"\[([^\[\]]+)\]\s*(?:[#;].*)?")
SETTING = re.compile(r"([^=:]*[^=:\s])\s*[=:]\s*(.*)")
COMMENT = re.compile(r"(?:^|\s+)[#;].*")  # behind a value
SURE_COMMENT = re.compile(r"(?:^|\s+)[#;]+(?:\s.*)?")  # "# note" in a path; "#1 runs" may belong to it
QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')(?:\s+[#;].*)?""")
QUOTES = ('"', "'")


@dataclass(frozen=True)
class Line:
    """A setting as it stands in a file."""

    number: int
    section: str
    key: str
    text: str


def read_lines(path: Path) -> list[Line]:
    """The settings of a file. Raises LungError for a line that is none, and for a key that is there twice."""
    section, found = "", {}
    for number, line in enumerate(re.split(r"\r\n?|\n", read_text(path)), start=1):
        line, place = line.strip(), f"{path}, line {number}"
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = read_section(line, place)
            continue
        match = SETTING.fullmatch(line)
        if not match:
            raise LungError(f"{place}: '{line}' is not a setting; write key = value, all in one line")
        key, text = match.groups()
        if not section:
            raise LungError(f"{place}: '{key}' stands before the first section; write [training] or another above it")
        earlier = found.setdefault((section, key.lower()), Line(number, section, key, text))
        if earlier.number != number:
            raise LungError(f"{place}: {key} is in line {earlier.number} already; remove one of them")
    return list(found.values())


def read_section(line: str, place: str) -> str:
    """The name of a section. Raises LungError where the line is none."""
    if match := SECTION.fullmatch(line):
        return match[1].strip()
    raise LungError(f"{place}: '{line}' is not a section; write its name alone, as [training]")


def bare_value(text: str) -> str:
    """A value without the quotes around it, or without the comment behind it. Raises ValueError for half a quote."""
    if quoted := QUOTED.fullmatch(text):
        return quoted[1] or quoted[2] or ""
    if text.startswith(QUOTES):
        raise ValueError("put one pair of quotes around the whole value")
    return COMMENT.sub("", text)


def bare_path(text: str, place: Callable[[str], Path]) -> str:
    """What `bare_value` gives of a path, of which a # or ; may be a part: it is where the path with it is there.

    place: where a path of the settings lies
    Raises ValueError where it could be a part or a comment.
    """
    value = bare_value(text)
    if QUOTED.fullmatch(text) or value == text:
        return value
    whole, cut = place(text), place(value)
    own = {whole, *whole.parents} - {cut, *cut.parents}
    if any(map(is_there, own)):
        return text
    rest = text[len(value) :]
    if SURE_COMMENT.fullmatch(rest):
        return value
    raise ValueError(
        f"if '{rest.strip()}' is part of the path, quote the path; if not, add a blank after '{rest.strip()[0]}'"
    )


def is_there(path: Path) -> bool:
    """Whether there is a file or folder of this name; not where there can be none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a comment that is too long for a name
        return False


def quote(text: str) -> str:
    """A value as a file holds it, in quotes where it needs them. Raises ValueError where it has both kinds."""
    if text and not text.startswith(QUOTES) and bare_value(text) == text:
        return text
    mark = next((mark for mark in QUOTES if mark not in text), None)
    if mark is None:
        raise ValueError(f"both kinds of quotes cannot be written: {text!r}")
    return f"{mark}{text}{mark}"
