"""Guesses about image files, from some of them: bands, units, elevation, class maps."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from bengelib.bands import LAND_COVER, S1_BANDS, S2_BANDS
from bengelib.data.guess import Guess
from bengelib.data.guess_columns import FEW, HEIGHT, OPTICAL, RADAR
from bengelib.data.value_tags import changing_tags
from bengelib.errors import DescriptionError

_LOOK = 12
"""Number of samples whose files are opened for a guess."""
_SIDE = 1024
"""Pixels along a side above which a file is read at reduced resolution."""
_S2_L1C = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
_EUROSAT = (*(f"B{number:02d}" for number in range(1, 13)), "B8A")
_ODD = (-9999.0, -32768.0, -32767.0)
"""Values that usually mean no data."""
_COVER = re.compile(r"(?i)land_?cover|worldcover|lulc")
_QUALITY = re.compile(r"(?i)(^|_)(qa|quality|scl|flags?|cloud_?mask)(_|\d|$)")
_NUMBERED = re.compile(r"(?i)(?:band|layer|channel)[ _-]?0*(\d+)")


@dataclass(frozen=True)
class Files:
    """The files that match one pattern.

    Attributes:
        name: a name for them, such as that of their folder.
        pattern: as in `dataset.toml`.
        samples: the files of each sample: one, or one per band.
        bands: names of the bands, if each has a file of its own.
        only_images: whether they cannot be class maps.
    """

    name: str
    pattern: str
    samples: Sequence[Sequence[Path]]
    bands: tuple[str, ...] = ()
    only_images: bool = False


@dataclass(frozen=True)
class _Look:
    """The layers (h, w) of one sample, their names, and the tags of its files."""

    layers: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    size: tuple[int, int]
    has_alpha: bool = False
    no_data: float | None = None
    is_scaled: bool = False
    tags: tuple[str, ...] = ()


def guess_files(guess: Guess, files: Files) -> None:
    """Describe the modalities and maps in files.

    Raises:
        DescriptionError: none of the opened files can be read.
    """
    looks: list[_Look] = []
    failed: list[str] = []
    for paths in files.samples[:: -(-len(files.samples) // _LOOK)]:
        try:
            looks.append(_look(paths, files.bands))
        except DescriptionError as error:
            failed.append(str(error))
    if not looks:
        raise DescriptionError(failed[0])
    for sentence in failed:
        guess.decide(sentence)
    counts = Counter(len(look.layers) for look in looks)
    if len(counts) > 1:
        guess.decide(
            f"the files of {files.pattern} have {' or '.join(map(str, sorted(counts)))} layers; put those of each kind "
            "into a folder of their own"
        )
    looks = [look for look in looks if len(look.layers) == counts.most_common(1)[0][0]]
    names, count = looks[0].names, len(looks[0].layers)
    is_named = all(names) and len(set(names)) == count and all(look.names == names for look in looks)
    numbers = [match[1] for name in names if (match := _NUMBERED.fullmatch(name))]
    is_named &= numbers != [str(number) for number in range(1, count + 1)]
    height, width = looks[0].size
    if files.pattern.lower().endswith(".npy") and count > max(height, width) / 2 and min(height, width) <= 16 < count:
        guess.decide(
            f"the arrays of {files.pattern} are read as {count} bands of {height} x {width} pixels: if their last axis "
            "is that of the bands, move it to the front"
        )
    draft = _Draft(guess, files, looks)
    if count == 1 and not files.only_images and (codes := draft.codes(0)):
        draft.map(files.name, 0, codes)
    elif is_named and count > 1:
        draft.named_layers(names)
    else:
        draft.image(files.name, draft.band_names(), range(count))


class _Draft:
    """The description of the files of one pattern."""

    def __init__(self, guess: Guess, files: Files, looks: Sequence[_Look]) -> None:
        self.guess, self.files, self.looks = guess, files, looks
        self.kind = looks[0].layers[0].dtype
        self.count = len(looks[0].layers)
        sizes = {look.size for look in looks}
        self.size = min(max(size) for size in sizes) if len(sizes) > 1 else None
        if self.size:
            guess.say(f"files of {files.pattern} have {len(sizes)} sizes: all are read at {self.size} pixels a side")
        if tags := sorted({tag for look in looks for tag in look.tags}):
            guess.decide(
                f"the files of {files.pattern} say {', '.join(tags)}: state scale and offset in dataset.toml "
                "accordingly"
            )
        if is_scaled := any(look.is_scaled for look in looks):
            guess.say(
                f"the scale and offset in the files of {files.pattern} are applied: state the unit that they give"
            )
        self.is_tagged = bool(tags) or is_scaled

    def named_layers(self, names: Sequence[str]) -> None:
        """Divide the layers of a file by their names."""
        groups: dict[str, list[int]] = {}
        others: list[int] = []
        for place, name in enumerate(names):
            if OPTICAL.fullmatch(name):
                groups.setdefault("optical", []).append(place)
            elif RADAR.fullmatch(name):
                groups.setdefault("radar", []).append(place)
            elif HEIGHT.search(name) or _COVER.search(name):
                groups[name] = [place]
            else:
                others.append(place)
        if not groups or (len(groups) == 1 and not others):
            self.image(self.files.name, names, range(len(names)))
            return
        self.guess.say(f"the {len(names)} layers of {self.files.pattern} are divided by their names")
        for name, indices in groups.items():
            if _COVER.search(name) and (codes := self.codes(indices[0])):
                self.map(name, indices[0], codes)
            else:
                self.image(name, [names[place] for place in indices], indices)
        for place in others:
            if _QUALITY.search(names[place]):
                self.guess.say(f"layer {names[place]} looks like flags of quality and is left out")
            else:
                why = (
                    f"neither a band nor elevation: take the # away to have {names[place]} read, unless it is predicted"
                )
                self.image(names[place], [names[place]], [place], off=why)
                self.guess.say(f"layer {names[place]} may be a target, and is written as a comment")

    def image(self, name: str, bands: Sequence[str], indices: Sequence[int], off: str = "") -> None:
        """Describe an image, with the unit and scale that its values suggest; `off` as in `Guess.add`."""
        low, high = self._range(indices)
        moving = [n for n in range(len(indices)) if high[n] > low[n]]
        if len(indices) > 1 and len(self.looks) > 1 and 0 < len(moving) < len(indices):
            gone = [bands[n] for n in range(len(indices)) if n not in moving]
            self.guess.say(f"{gone} of {self.files.pattern} have one value everywhere and are left out")
            bands, indices = [bands[n] for n in moving], [indices[n] for n in moving]
            low, high = low[moving], high[moving]
        no_data = sorted({look.no_data for look in self.looks if look.no_data is not None})
        if odd := [value for value in _ODD if low.min() == value or self._is_height(name, bands)]:
            no_data = sorted({*no_data, *odd})
            self.guess.say(f"{', '.join(f'{value:g}' for value in odd)} in {name} would be no data")
        is_all = len(indices) == self.count and not any(look.has_alpha for look in self.looks)
        key = self.guess.key(name, f"{self.files.name}_{name}", "image")
        facts = {
            "kind": "image",
            "files": self.files.pattern,
            "bands": list(bands),
            "layers": None if is_all or self.files.bands else [place + 1 for place in indices],
            **self._unit(key, name, bands, low, high),
            "no_data": no_data or None,
            "size": self.size,
        }
        self.guess.add("modalities", key, facts, off=off)

    def _range(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest measurement of each layer over all opened samples; 0 if there is none."""
        low, high = np.full(len(indices), np.inf), np.full(len(indices), -np.inf)
        for look in self.looks:
            for n, place in enumerate(indices):
                layer = look.layers[place]
                values = layer[np.isfinite(layer) & (layer != look.no_data)]
                if len(values):
                    low[n], high[n] = min(low[n], values.min()), max(high[n], values.max())
        there = np.isfinite(low)
        return np.where(there, low, 0), np.where(there, high, 0)

    def _unit(self, key: str, name: str, bands: Sequence[str], low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
        """Unit and scale of an image, from its names, type and values."""
        if self.is_tagged:
            return {"unit": ""}
        if self.kind.name == "uint8":
            return {"unit": "1", "scale": 1 / 255}
        if self._is_height(name, bands):
            return {"unit": "m"}
        span = f"{self.kind}, from {low.min():g} to {high.max():g}"
        if all(RADAR.fullmatch(band) for band in bands):
            unit = "dB" if low.min() < 0 else "linear power"
            self.guess.say(f"{key} is taken for backscatter in {unit} ({span})")
            return {"unit": unit}
        is_optical = all(OPTICAL.fullmatch(band) for band in bands)
        if is_optical and high.max() <= 2.5:
            self.guess.say(f"{key} is taken for reflectance ({span})")
            return {"unit": "reflectance"}
        if (is_optical or (len(bands) > 2 and self.kind.kind in "iu")) and 100 < high.max() < 30_000:
            self.guess.say(f"{key} is taken for reflectance x 10000 ({span})")
            return {"unit": "reflectance", "scale": 0.0001}
        return {"unit": ""}

    def _is_height(self, name: str, bands: Sequence[str]) -> bool:
        return bool(HEIGHT.search(name)) or all(HEIGHT.search(band) for band in bands)

    def map(self, name: str, place: int, codes: Sequence[int]) -> None:
        """Describe a class map."""
        key = self.guess.key(name, f"{self.files.name}_{name}", f"{name}_map", "map")
        legend = {entry.code: entry.name for entry in LAND_COVER}
        tag = next((look.no_data for look in self.looks if look.no_data is not None), None)
        rest = [code for code in codes if code != tag]
        no_data = [int(tag)] if tag is not None and tag == int(tag) else []
        known = [code for code in rest if code != 0]
        if len(known) > 1 and set(known) <= set(legend):
            classes, no_data = legend, [0]
            self.guess.say(f"{key} is taken for a map of ESA WorldCover")
        elif rest in ([0, 255], [0, 1]):
            classes, no_data = {rest[0]: f"no {name}", rest[1]: name}, []
            self.guess.say(f"{key} is taken for a map of two classes, {rest}")
        else:
            if len(rest) > 2 and 255 in rest and not no_data:
                rest, no_data = [code for code in rest if code != 255], [255]
            classes = {code: f"class {code}" for code in rest}
            self.guess.say(f"{key} is taken for a map of {len(rest)} classes, {rest}: name them")
        facts = {
            "kind": "map",
            "files": self.files.pattern.replace("{band}", self.files.bands[place] if self.files.bands else ""),
            "classes": classes,
            "layers": [place + 1] if self.count > 1 and not self.files.bands else None,
            "no_data": no_data or None,
            "size": self.size,
        }
        self.guess.add("targets", key, facts)

    def codes(self, place: int) -> list[int]:
        """The codes in a layer over all files; empty if it is not a class map."""
        if self.kind.kind not in "iu" or HEIGHT.search(self.files.name if self.count == 1 else ""):
            return []
        found = {int(code) for look in self.looks for code in np.unique(look.layers[place])}
        if not _may_be_codes(found):
            return []
        for paths in self.files.samples:
            path, layer = (paths[place], 0) if self.files.bands else (paths[0], place)
            try:
                found |= {int(code) for code in np.unique(_read(path, layer).layers[0])}
            except DescriptionError:
                continue
            if not _may_be_codes(found):
                return []
        return sorted(found) if len(found) > 1 else []

    def band_names(self) -> Sequence[str]:
        """Names for unnamed layers, from their number, type and values."""
        count, name = self.count, self.files.name
        if self.files.bands:
            return self.files.bands
        if count == 13 and self.kind.name != "uint8":
            means = np.mean([[np.nanmean(layer) for layer in look.layers] for look in self.looks], axis=0)
            cirrus = int(means.argmin())  # B10 sees the upper atmosphere alone and is almost black
            if order := {9: _EUROSAT, 10: _S2_L1C}.get(cirrus):
                self.guess.say(
                    f"13 layers are taken for Sentinel-2 Level-1C in the order {', '.join(order)}: the darkest, layer "
                    f"{cirrus + 1}, is taken for the cirrus band B10; check it"
                )
                return order
        if count == 12 and self.kind.name != "uint8":
            order = S2_BANDS
            self.guess.say(f"12 layers are taken for Sentinel-2 Level-2A in the order {', '.join(order)}; check it")
            return order
        if count == 3 and self.kind.name == "uint8":
            self.guess.say(f"the three layers of {name} are taken for red, green and blue; check it")
            return ("R", "G", "B")
        if count == 2 and self.kind.kind == "f":
            self.guess.say(f"the two layers of {name} are taken for VV and VH; check it")
            return S1_BANDS
        if count > 1:
            self.guess.decide(f"the {count} layers of {self.files.pattern} have no names: give them some in `bands`")
        return (name or "image",) if count == 1 else tuple(f"band_{number}" for number in range(1, count + 1))


def form_of(path: Path) -> tuple[int, str, tuple[str, ...]] | None:
    """Number of layers of a file, their type and names, by which classes differ from modalities; None if unreadable."""
    try:
        look = _read(path)
    except DescriptionError:
        return None
    return len(look.layers), look.layers[0].dtype.name, look.names


def _may_be_codes(found: set[int]) -> bool:
    return 1 <= len(found) <= FEW and min(found) >= 0


def _look(paths: Sequence[Path], bands: Sequence[str]) -> _Look:
    """Open the files of one sample: one, or one per band.

    Raises:
        DescriptionError: a file cannot be read.
    """
    parts = [_read(path) for path in paths]
    if not bands:
        return parts[0]
    return replace(
        parts[0],
        layers=tuple(layer for part in parts for layer in part.layers[:1]),
        names=tuple(bands),
        size=max(part.size for part in parts),
        is_scaled=any(part.is_scaled for part in parts),
        tags=tuple(tag for part in parts for tag in part.tags),
    )


def _read(path: Path, place: int | None = None) -> _Look:
    """The layers of a file, at reduced resolution if it is large, or one of them in full.

    Raises:
        DescriptionError: the file cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            return _read_npy(path, place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                alpha = [n for n in file.indexes if file.colorinterp[n - 1] == ColorInterp.alpha]
                chosen = [n for n in file.indexes if n not in alpha] if place is None else [place + 1]
                shape = tuple(min(side, _SIDE) for side in file.shape) if place is None else file.shape
                pixels = file.read(chosen, out_shape=(len(chosen), *shape))
                if pixels.dtype.kind not in "iuf":
                    raise ValueError(f"{pixels.dtype}; expected real numbers")
                tags = [*file.tags().items(), *(item for n in chosen for item in file.tags(n).items())]
                is_scaled = any(file.scales[n - 1] != 1 or file.offsets[n - 1] != 0 for n in chosen)
                return _Look(
                    tuple(pixels),
                    tuple(file.descriptions[n - 1] or "" for n in chosen),
                    file.shape,
                    bool(alpha),
                    file.nodata if file.nodata is not None and np.isfinite(file.nodata) else None,
                    is_scaled,
                    () if is_scaled else tuple(changing_tags(tags)),
                )
    except (RasterioError, OSError, ValueError, EOFError) as error:
        raise DescriptionError(f"{path} cannot be read ({error}): repair it, or move it elsewhere") from error


def _read_npy(path: Path, place: int | None) -> _Look:
    """The layers of a `.npy` file, or one of them."""
    pixels = np.load(path, allow_pickle=False)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.dtype.kind not in "iufb" or not pixels.size:
        raise ValueError(f"{pixels.dtype} of shape {pixels.shape}; expected numbers (bands, rows, columns)")
    pixels = pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels
    layers = tuple(pixels) if place is None else (pixels[place],)
    return _Look(layers, ("",) * len(layers), (pixels.shape[1], pixels.shape[2]))
