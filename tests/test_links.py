"""The public address: one place, and every badge and setup cell agrees with it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from tools import links

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path for path in ROOT.glob("[0-9][0-9]-*/**/*.ipynb") if ".ipynb_checkpoints" not in path.parts)
LABS = sorted(ROOT.glob("[0-9][0-9]-*/lab_*.ipynb"))  # the README shows these; solutions lie a folder deeper
BADGE = re.compile(
    r"https://colab\.research\.google\.com/github/(?P<colab>[^/]+/[^/]+)/blob/main/(?P<colab_path>[^\s)\"'\\]+)"
    r"|https://mybinder\.org/v2/gh/(?P<binder>[^/]+/[^/]+)/main\?urlpath=(?P<binder_path>[^\s)\"'\\]+)"
)


def badge_targets(text: str) -> Iterator[tuple[str, str]]:
    """`owner/name` and path of every badge link in `text`."""
    for match in BADGE.finditer(text):
        if match["colab"]:
            yield match["colab"], unquote(match["colab_path"])
        else:
            yield match["binder"], unquote(match["binder_path"]).removeprefix("lab/tree/")


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_badges_of_a_notebook_open_that_notebook(path):
    targets = set(badge_targets("\n".join(sources(path))))
    repository, own = links.declared_repository(), path.relative_to(ROOT).as_posix()
    assert targets == {(repository, own)}
    assert links.badges(own, repository) in "\n".join(sources(path))


def test_badges_of_the_readme_open_files_that_exist():
    targets = set(badge_targets((ROOT / "README.md").read_text()))
    assert targets == {(links.declared_repository(), path.relative_to(ROOT).as_posix()) for path in LABS}


@pytest.mark.parametrize("path", links.linked_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_address_agrees_with_pyproject(path):
    assert {found[2] for found in links.OWN_ADDRESS.finditer(path.read_text())} <= {links.declared_repository()}


@pytest.mark.parametrize("path", links.linked_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rewriting_to_the_declared_address_changes_nothing(path):
    text, repository = path.read_text(), links.declared_repository()
    assert links.rewrite(text, repository, repository) == text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "01-topic").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/old-owner/old.name"\n')
    (tmp_path / "README.md").write_text(
        f"{links.badges('01-topic/lab_t.ipynb', 'old-owner/old.name')}\n"
        "See https://github.com/old-owner/old.name/issues, https://github.com/old-owner/old.name.\n"
        "Others stay: https://github.com/old-owner/old.name2 and https://github.com/someone/else.\n"
    )
    (tmp_path / "01-topic" / "lab_t.ipynb").write_bytes(
        b'{"cells": [{"source": ["x =  \\"bengelib @ git+https://github.com/strayed/away\\"\\n",'
        b' "\xc3\xa9 https://mybinder.org/v2/gh/old-owner/old.name/main?urlpath=lab/tree/01-topic/lab_t.ipynb"]}]}\r\n'
    )
    return tmp_path


def test_rewrite_reaches_all_and_only_own_addresses(project):
    assert {path.name for path in links.rewrite_all("New/repo-1", project)} == {
        "pyproject.toml",
        "README.md",
        "lab_t.ipynb",
    }
    assert links.declared_repository(project) == "New/repo-1"
    readme = (project / "README.md").read_text()
    assert "https://github.com/New/repo-1/issues, https://github.com/New/repo-1.\n" in readme
    assert "old-owner/old.name2 and https://github.com/someone/else." in readme
    assert set(badge_targets(readme)) == {("New/repo-1", "01-topic/lab_t.ipynb")}


def test_rewrite_keeps_every_other_byte_of_a_notebook(project):
    path = project / "01-topic" / "lab_t.ipynb"
    before = path.read_bytes()
    links.rewrite_all("n/r", project)
    expected = before.replace(b"strayed/away", b"n/r").replace(b"old-owner/old.name", b"n/r")
    assert path.read_bytes() == expected


def test_second_rewrite_changes_nothing(project):
    links.rewrite_all("n/r", project)
    assert links.rewrite_all("n/r", project) == []


@pytest.mark.parametrize("name", ["", "owner", "owner/", "a/b/c", "https://github.com/a/b", "a b/c"])
def test_a_name_that_is_none_is_refused_and_changes_nothing(project, name, capsys):
    before = (project / "README.md").read_bytes()
    assert links.main([name], project) == 2
    assert f"'{name}' is not of the form owner/name" in capsys.readouterr().err
    assert (project / "README.md").read_bytes() == before


PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "data" / "README.md", *sorted(ROOT.glob("docs/*.md")),
         *sorted(ROOT.glob("[0-9][0-9]-*/*.md"))]  # fmt: skip
MARKDOWN_LINK = re.compile(r"\]\((?!https?:|figure:|mailto:)([^)\s]+)\)")


def local_links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of every link of a page that stays within the project; code is left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = [address.partition("#") for address in MARKDOWN_LINK.findall(text)]
    return [((page.parent / unquote(name)).resolve() if name else page, anchor) for name, _, anchor in found]


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub makes of the titles of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_notebook_needs_no_other_file_for_its_links_and_pictures(path):
    """It is opened alone on Colab, and its copy with solutions lies in another folder."""
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    assert not [address for address in MARKDOWN_LINK.findall(text) if not address.startswith("#")]
    for picture in links.OWN_PICTURE.findall(text):
        assert (ROOT / picture).is_file(), picture


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_within_the_project_is_dead(page):
    for target, anchor in local_links(page):
        assert target.exists(), f"{page.name} links to {target.relative_to(ROOT)}, which is not there"
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{page.name}: no #{anchor}"


def test_schedule_slides_and_lab_1_are_three_clicks_from_the_readme():
    clicks, found, front = 0, {ROOT / "README.md"}, [ROOT / "README.md"]
    while front and clicks < 3:
        clicks += 1
        reached = {target for page in front if page.suffix == ".md" for target, _ in local_links(page)}
        front = sorted(reached - found)
        found |= reached
    wanted = ["00-intro/teaching.md", "00-intro/00_intro.pdf", "01-data_fusion/01_data_fusion.pdf", "02-mtl/02_mtl.pdf",
              "03-ssl/03_ssl.pdf", "01-data_fusion/lab_df.ipynb"]  # fmt: skip
    assert {ROOT / name for name in wanted} <= found
