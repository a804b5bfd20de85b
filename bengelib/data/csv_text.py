"""The text of a CSV file, read or refused with an explanation of the fault."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from bengelib.errors import BengeError

_AS_CSV = "save it as CSV UTF-8, with commas"
_NUMBERS = (
    (r"[-+]?\d{1,3}(,\d{3}){2,}(\.\d*)?|[-+]?\d{1,3},\d{3}\.\d*", "thousands separators: write 1234.5"),
    (r"[-+]?\d{1,3}([ '\u2019\u00a0\u2009\u202f]\d{3})+([.,]\d*)?", "thousands separators: write 1234.5"),
    (r"[-+]?\d{1,3}(\.\d{3})+,\d*", "points as thousands separators, and a decimal comma: write 1234.5"),
    (r"[-+]?\d{1,3},\d{3}", "a decimal comma (write 1.234), or a thousands separator (write 1234)?"),
    (r"[-+]?\d*,\d+([eE][-+]?\d+)?", "a decimal comma: write a point"),
    (r"[\u2212\u2012\u2013\u2014].*\d.*", "a dash in place of the minus sign: write -"),
    (r"[-+]?\d+(\.\d+)?\s*[^\d\s.,eExX_+-].*", "a unit or another sign behind the number: leave it out"),
    (r"(?i)true|false", "a truth value: write a number"),
    (r"#.*", "an error of a spreadsheet: correct its formula"),
)
"""Text that stands in place of a number, by its form."""
_KINDS = (
    (b"PK\x03\x04", f"an Excel workbook or another zip archive: open it and {_AS_CSV}"),
    (b"\xd0\xcf\x11\xe0", f"an old Excel workbook: open it and {_AS_CSV}"),
    (b"PAR1", "a Parquet file: write it as CSV"),
    (b"\x1f\x8b", "compressed: unpack it first"),
    (b"BZh", "compressed: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed: unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (b"\xff\xfe", f"UTF-16 text, as spreadsheets write it: {_AS_CSV}"),
    (b"\xfe\xff", f"UTF-16 text, as spreadsheets write it: {_AS_CSV}"),
)
"""Kinds of files other than CSV, by their first bytes."""


def read_text(path: Path, error: type[BengeError]) -> str:
    """The text of a file in UTF-8, without its byte-order mark.

    Raises:
        error: the file cannot be read or is not CSV, but a workbook, a web page, or text of another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise error(f"cannot read {path}: {reason}") from reason
    for start, what in _KINDS:
        if data.startswith(start):
            raise error(f"cannot read {path}: it is {what}.")
    if data.lstrip()[:1] == b"<":
        raise error(f"cannot read {path}: it is a web page or XML, not a CSV. A download that failed?")
    if (zeros := data.count(0)) > 0:
        what = f"UTF-16 text: {_AS_CSV}" if zeros > len(data) / 3 and any(data) else "damaged: it has bytes of value 0"
        raise error(f"cannot read {path}: it is {what}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        raise error(
            f"cannot read {path}: line {line} has the byte {data[reason.start]:#x}, which is not UTF-8. It is text of "
            f"another encoding: {_AS_CSV}."
        ) from reason
    return text


def read_rows(
    text: str, path: Path, error: type[BengeError], *, strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row of a text with commas; blank lines are skipped.

    Raises:
        error: a comment, or quotes that do not match (where `strict`).
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=strict, skipinitialspace=True)
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if (start := row[0].lstrip(' "')).startswith(("#", "//")):
                raise error(
                    f"{path}: line {reader.line_num} begins with {start[:40]!r}. Comments are not read: remove it or, "
                    "if it is the header, the sign before it."
                )
            yield reader.line_num, row
    except csv.Error as reason:
        raise error(
            f"cannot read {path}: quotes that do not match, up to line {reader.line_num} ({reason})."
        ) from reason


def what_number(text: str) -> str:
    """Explain why a text is not a number, as a sentence after a space; empty if unknown."""
    for form, what in _NUMBERS:
        if re.fullmatch(form, text.strip()):
            return f" {text.strip()!r} looks like {what}{'' if what.endswith('?') else '.'}"
    return ""
