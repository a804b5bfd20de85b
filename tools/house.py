"""Draws the house: the layers of `bengelib` and how often one imports from another, as a Mermaid flow chart.

    python -m tools.house                                  # print the drawing of this checkout
    python -m tools.house FOLDER                           # of another copy of the package
    python -m tools.house --write docs/architecture.md     # put it in its place on that page

The layers are those of the import-linter contract in pyproject.toml; the arrows are the imports in the code, dashed
where they do not point down. Needs no packages.
"""

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- house -->\n).*?(<!-- end of house -->)", re.DOTALL)


def imports(folder: Path) -> set[tuple[str, str]]:
    """Pairs of modules of the package in `folder`, the first importing the second, named without the package."""
    pairs = set()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == folder.name:
                source = (node.module or "").removeprefix(folder.name).lstrip(".")
                for alias in node.names:  # `from bengelib.data import files` names a module, or a name of one
                    inner = f"{source}.{alias.name}".lstrip(".")
                    module = inner if _is_module(folder, inner) else source
                    if module and module != name:
                        pairs.add((name, module))
    return pairs


def _is_module(folder: Path, name: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def rooms(folder: Path, pyproject: Path) -> dict[str, list[str]]:
    """The modules of each layer, from the top of the house to its foundation; in one room if there is no contract."""
    modules = [path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("*.py"))]
    names = [".".join(path.parts) for path in modules if path.name != "__init__" and path.name != "__main__"]
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8")) if pyproject.is_file() else {}
    contracts = settings.get("tool", {}).get("importlinter", {}).get("contracts", [])
    if not contracts:
        return {folder.name: names}
    house: dict[str, list[str]] = {}
    layers = contracts[0]["layers"]
    for layer in layers:
        parts = re.split(r"\s*[:|]\s*", layer)
        flat = "foundation" if layer == layers[-1] else "core"
        for part in parts:
            if members := [name for name in names if name.split(".")[0] == part]:
                house.setdefault(part if (folder / part).is_dir() else flat, []).extend(members)
    return house


def draw(folder: Path, pyproject: Path) -> str:
    """The flow chart, as the text of a Mermaid block; its first line counts modules, rooms and imports."""
    house = rooms(folder, pyproject)
    room_of = {name: room for room, members in house.items() for name in members} | {room: room for room in house}
    pairs = sorted(pair for pair in imports(folder) if pair[0] in room_of and pair[1] in room_of)
    arrows = Counter((room_of[one], room_of[other]) for one, other in pairs)
    modules = sum(map(len, house.values()))
    counts = [_counted(modules, "module"), _counted(len(house), "room"), _counted(len(pairs), "import")]
    lines = [f"%% {', '.join(counts)}", "flowchart TD"]
    for room, members in house.items():
        inside = [_counted(arrows[room, room], "import")] if arrows[room, room] else []
        words = ", ".join([_counted(len(members), "module"), *inside])
        shown = "<br/>".join([f"<b>{room}</b>", words, *_wrapped(members)])
        lines.append(f'    {room}["{shown}"]')
    order = list(house)
    for (one, other), count in sorted(arrows.items(), key=lambda item: tuple(map(order.index, item[0]))):
        if one != other:
            arrow = "-->" if order.index(one) < order.index(other) else "-.->"
            lines.append(f"    {one} {arrow}|{count}| {other}")
    return "\n".join(lines) + "\n"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _wrapped(members: Sequence[str], width: int = 70) -> list[str]:
    """Names of modules without that of their wing, in lines."""
    lines = [""]
    for name in sorted(member.split(".")[-1] for member in members):
        if len(lines[-1]) + len(name) > width:
            lines.append("")
        lines[-1] += f" {name}" if lines[-1] else name
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the drawing, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "bengelib", help="the folder of the package")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page that has the drawing")
    options = parser.parse_args(arguments)
    text = draw(options.folder, options.folder.resolve().parent / "pyproject.toml")
    if options.write is None:
        print(text, end="")
    else:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(PLACE.sub(rf"\1```mermaid\n{text}```\n\2", page), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
