"""The teacher's pack: plans name sections that exist and fill their time, and the rest holds what it promises."""

import re
from pathlib import Path

import pytest

from tools.links import ROOT

INTRO = ROOT / "00-intro"
LABS = {path.parent.name[1]: path for path in sorted(ROOT.glob("[0-9][0-9]-*/lab_*.src.md"))}
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
SECTION = re.compile(r"(\d)\.(\d+ .+)")
EXERCISE = re.compile(r"Exercise (\d)\.\d+: .+")


def text(name: str) -> str:
    return (INTRO / name).read_text(encoding="utf-8")


def headings(lab: Path) -> set[str]:
    """Titles of a lab's source, code left out."""
    prose = re.sub(r"^```.*?^```", "", lab.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^#+ (.+)$", prose, re.MULTILINE))


def quoted(page: str) -> list[tuple[str, str, str]]:
    """(number of the lab, title, address) of every section and exercise that a page links to."""
    found = []
    for words, address in LINK.findall(page):
        if section := SECTION.fullmatch(words):
            found.append((section[1], section[2], address))
        elif exercise := EXERCISE.fullmatch(words):
            found.append((exercise[1], words, address))
    return found


@pytest.mark.parametrize("name", [path.name for path in sorted(INTRO.glob("*.md"))])
def test_sections_that_a_page_names_exist(name):
    for lab, title, address in quoted(text(name)):
        notebook = (INTRO / address).resolve()
        assert notebook.is_relative_to(LABS[lab].parent) and notebook.is_file()
        source = notebook.with_suffix(".src.md")
        assert title in headings(source), f"{name} names '{title}', which {source.name} does not have"


def test_a_section_that_does_not_exist_is_noticed():
    assert quoted("[1.1 Data](x), [Exercise 2.1: A loss](y), [own-data.md](z)") == [
        ("1", "1 Data", "x"), ("2", "Exercise 2.1: A loss", "y"),
    ]  # fmt: skip
    assert "1 Data" in headings(LABS["1"]) and "99 Data" not in headings(LABS["1"])


def test_exercises_named_by_number_exist():
    numbered = re.compile(r"^#### Exercise (\d\.\d):", re.MULTILINE)
    sources = ROOT.glob("[0-9][0-9]-*/**/*.src.md")
    every = {number for source in sources for number in numbered.findall(source.read_text(encoding="utf-8"))}
    for path in [*INTRO.glob("*.md"), *ROOT.glob("[0-9][0-9]-*/[0-9][0-9]_*.md")]:
        page = path.read_text(encoding="utf-8")
        named = [number for found in re.findall(r"[Ee]xercises? (\d\.\d(?:(?:,| and| or) \d\.\d)*)", page)
                 for number in re.findall(r"\d\.\d", found)]  # fmt: skip
        assert set(named) <= every, path.name


@pytest.mark.parametrize(("plan", "minutes"), [("90 minutes", 90), ("120 minutes", 120), ("Two days", 4 * 165)])
def test_a_plan_fills_its_time_and_says_what_to_skip(plan, minutes):
    (section,) = re.findall(rf"^### {plan}.*?\n(.*?)(?=^##)", text("teaching.md"), re.DOTALL | re.MULTILINE)
    assert sum(map(int, re.findall(r"^\| (\d+) \|", section, re.MULTILINE))) == minutes
    assert "\nSkip: " in section


def minutes_of(lab: Path) -> dict[str, int]:
    """Minutes of reading by section and of each exercise, as a lab states them; sections of one row count once."""
    source = lab.read_text(encoding="utf-8")
    stated = re.findall(r"^\| (\d+) [^|]+ \| (\d+) \|", source, re.MULTILINE)
    stated += re.findall(r"^#### (Exercise .+)\n\n\*About (\d+) minutes", source, re.MULTILINE)
    return {name: int(minutes) for name, minutes in stated}


def needed(place: str) -> int:
    """Minutes that the sections and exercises in a cell of a plan need; `a to b` is all sections between them."""
    total = 0
    for part in place.split("), "):
        named = [each for each in quoted(f"{part})") if each[2].startswith("../") and "/study/" not in each[2]]
        if not named:
            continue
        minutes = minutes_of(LABS[named[0][0]])
        if " to [" in part:
            first, last = (int(title.split()[0]) for _, title, _ in named)
            total += sum(minutes.get(str(section), 0) for section in range(first, last + 1))
        else:
            _, title, _ = named[0]
            total += minutes.get(title if title.startswith("Exercise") else title.split()[0], 0)
    return total


def test_no_step_of_a_plan_is_shorter_than_the_lab_says():
    steps = re.findall(r"^\| (\d+) \| (.+?) \| (.*) \|$", text("teaching.md"), re.MULTILINE)
    short = [(what, int(given), needed(place)) for given, what, place in steps if needed(place) > int(given)]
    assert not short, f"(step, minutes in the plan, minutes in the lab): {short}"
    assert needed("[1.2 A](../01-data_fusion/lab_df.ipynb), [Exercise 1.2: A paired difference](../x)") > 20
    assert needed("[2.2 A](../x) to [2.4 B](../x)") > needed("[2.2 A](../x)") > 0


def test_half_days_are_as_long_as_they_say():
    (section,) = re.findall(r"^### Two days.*?\n(.*?)(?=^##)", text("teaching.md"), re.DOTALL | re.MULTILINE)
    rows = list(map(int, re.findall(r"^\| (\d+) \|", section, re.MULTILINE)))
    halves, total = {0}, 0
    for row in rows:
        total += row
        halves.add(total)
    assert halves >= {165, 330, 495, 660}


def test_the_rubric_sums_to_100():
    assert sum(map(int, re.findall(r"\| (\d+) \|$", text("assignment.md"), re.MULTILINE))) == 100


def test_every_question_has_its_answer():
    questions = re.findall(r"^(\d+)\. \*(.+?)\* (.+)", text("teaching.md"), re.MULTILINE)
    assert [int(number) for number, *_ in questions] == list(range(1, 11))
    assert all(question.endswith("?") and len(answer) > 20 for _, question, answer in questions)
    asked = re.findall(r"^\d\. ", text("self-test.md"), re.MULTILINE)
    assert text("self-test.md").count("<summary>Answer</summary>") == len(asked) == 8


def test_the_glossary_is_in_order_and_names_nothing_twice():
    for part in text("glossary.md").split("\n## ")[1:]:
        words = [word.lower() for word in re.findall(r"^\| (.+?) \|", part, re.MULTILINE)][1:]
        assert len(words) >= 20 and len(set(words)) == len(words)
        assert words == sorted(words, key=lambda word: word.replace("ö", "oe").replace("-", " "))


def test_the_data_statement_fits_on_a_page():
    words = re.sub(r"\]\([^)]*\)|[|*#]", " ", text("datasheet.md")).split()
    assert 300 < len(words) < 700


def test_the_answer_key_links_to_every_solution():
    key = text("teaching.md").split("## Answer key")[1]
    solutions = {path.resolve() for path in ROOT.glob("[0-9][0-9]-*/**/solutions/*.ipynb")}
    assert {(INTRO / address).resolve() for _, address in LINK.findall(key)} == solutions
