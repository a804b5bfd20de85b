"""What tests use that Windows does not have, so that they are skipped there, with a reason, by one table."""

import inspect
import re
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

WORDS = {
    r"\bfcntl\b|needs_flock": "Windows locks files in another way",
    r"\bmkfifo\b|/dev/": "Windows has no files of this kind",
    r"\bkillpg\b|\bSIGKILL\b|start_new_session|pthread_sigmask": "Windows has other signals",
    r"\bchmod\b|#!/bin/sh|\bshell=True\b": "Windows has other rights and another shell",
    r'"fork"': "Windows does not fork",
    r'"HOME"': "Windows keeps the home folder elsewhere",
}
LINKS = re.compile(r"\bsymlink_to\b|\bos\.symlink\b")


def reason_of(source: str, platform: str, can_link: bool) -> str | None:
    """Why the test with this source cannot run on a system, None if it can."""
    if platform != "win32":
        return None
    if not can_link and LINKS.search(source):
        return "this Windows lets nobody make links; its developer mode does"
    return next((why for words, why in WORDS.items() if re.search(words, source)), None)


def reason(item: pytest.Item) -> str | None:
    """Why a test cannot run here, None if it can."""
    if sys.platform != "win32" or not isinstance(item, pytest.Function):
        return None
    return reason_of(inspect.getsource(item.function), sys.platform, _can_link())


@cache
def _can_link() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            Path(folder, "link").symlink_to(folder)
        except OSError:
            return False
    return True
