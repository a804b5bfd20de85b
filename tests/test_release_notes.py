"""The notes of a release are its section of the changelog."""

import pytest

from tools import release_notes

TEXT = """# Changelog

The format.

## Unreleased (0.3.0)

### Added
- Not yet.

## 0.2.0 (2026-12-01)

### Added
- A site.

## [0.1.0] - 2026-11-01

- First.
"""


@pytest.mark.parametrize(("version", "expected"), [("0.2.0", "### Added\n- A site."), ("0.1.0", "- First.")])
def test_a_version_has_its_section(version, expected):
    assert release_notes.notes(TEXT, version) == expected


@pytest.mark.parametrize("version", ["0.3.0", "1.0.0"])
def test_a_version_that_is_not_released_has_none(version):
    with pytest.raises(ValueError, match=f"Unreleased, 0.2.0, 0.1.0, but nothing under '## {version}'"):
        release_notes.notes(TEXT, version)


def test_the_command_takes_the_tag_and_fails_without_a_section(capsys, tmp_path, monkeypatch):
    (tmp_path / "CHANGELOG.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(release_notes, "ROOT", tmp_path)
    assert release_notes.main(["v0.2.0"]) == 0
    assert capsys.readouterr().out == "### Added\n- A site.\n"
    assert release_notes.main(["v0.3.0"]) == 1
    assert "give its section that heading" in capsys.readouterr().err
