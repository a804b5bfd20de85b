"""The drawings of the labs' ideas, and the picture of the README that is made of them."""

from pathlib import Path

from bengelib.plot import ideas

ROOT = Path(__file__).parents[2]


def said(figure):
    return {text.get_text().replace("\n", " ") for text in figure.axes[0].texts}


def test_each_idea_names_its_parts():
    assert {"early", "feature", "late", "decision", "one answer", "a class"} <= said(ideas.draw_fusion_idea())
    products = " ".join(said(ideas.draw_multitask_idea()))
    assert all(words in products for words in ("shared encoder", "land cover", "climate zone", "season"))
    assert {"First: many images, no labels", "Then: few labels", "the same encoder"} <= said(
        ideas.draw_self_supervision_idea()
    )


def test_the_readme_shows_the_course_with_its_alternative_text():
    image = ROOT / "docs" / "images" / "course.png"
    assert 20_000 < image.stat().st_size < 200_000
    assert f"![{ideas.COURSE}](docs/images/course.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
