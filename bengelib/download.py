"""placeholder."""
from pathlib import Path
NAMES = ("ben-ge-800", "ben-ge-8k", "ben-ge")
def fetch(name: str, root: str | Path = "data", *, progress: bool = True) -> Path:
    """Not there yet."""
    raise NotImplementedError
