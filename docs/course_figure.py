"""Draw docs/images/course.png, the picture at the top of the README: `python docs/course_figure.py`."""

from pathlib import Path

from bengelib.plot.ideas import draw_course

PATH = Path(__file__).parent / "images" / "course.png"

if __name__ == "__main__":
    draw_course().savefig(PATH)
