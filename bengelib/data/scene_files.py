"""The files and values given for a scene, and the location of each band of the model in them."""

import os
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from bengelib.data.geotiff import missing_hint
from bengelib.data.tiff import AGAIN
from bengelib.errors import ArgumentError, BandError, DataWarning, MissingModalityError, RasterError
from bengelib.modalities import Modality

_NUMBERED = re.compile(r"b(?:and)?[ _-]*0*(\d+a?)")
"""Bands named by a number, such as those of Sentinel-2 and Landsat."""

Files = str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any]


def sort_files(
    files: Files, inputs: Mapping[str, Modality]
) -> tuple[list[tuple[str | None, str]], dict[str, np.ndarray]]:
    """Paths, each with its stated modality or band, and the values of modalities that are not images.

    Raises:
        ArgumentError: an unknown key, invalid numbers, or no file.
        MissingModalityError: a value is missing.
    """
    vectors = {key: each for key, each in inputs.items() if each.kind != "image"}
    known = {*inputs, *(band for each in inputs.values() if each.kind == "image" for band in each.bands)}
    entries: list[tuple[str | None, Any]]
    if isinstance(files, Mapping):
        entries = list(files.items())
    else:
        paths = [files] if isinstance(files, (str, os.PathLike)) else list(files)
        entries = [_split(os.fspath(path), known) for path in paths]
    named: list[tuple[str | None, str]] = []
    values: dict[str, np.ndarray] = {}
    for key, given in entries:
        if key is not None and key not in known:
            raise ArgumentError(f"a file for {key!r}; the model reads {list(inputs)}, and their bands {sorted(known)}")
        if key in vectors:
            values[key] = _numbers(key, given, vectors[key])
        elif isinstance(given, (str, os.PathLike)):
            named.append((key, os.fspath(given)))
        else:
            named += [(key, os.fspath(path)) for path in given]
    if not named:
        raise ArgumentError("no file was given; expected one or more GeoTIFFs of the scene")
    if missing := [key for key in vectors if key not in values and not vectors[key].is_place]:
        example = ",".join(["0.5"] * len(vectors[missing[0]].bands))
        raise MissingModalityError(
            f"the model reads {missing}, which no image holds; give the values for the scene, such as "
            f"{missing[0]}={example}"
        )
    return named, values


def _numbers(key: str, given: Any, modality: Modality) -> np.ndarray:
    """The values of a modality that is not an image, (k,) float32.

    Raises:
        ArgumentError: they are not numbers, or their number differs from that of the model.
    """
    try:
        value = np.asarray(given.split(",") if isinstance(given, str) else given, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise ArgumentError(f"{key}={given!r}; expected numbers, since {key} is not an image") from None
    expected = len(modality.bands)
    if len(value) != expected or not np.isfinite(value).all():
        raise ArgumentError(f"{key}={given!r}; expected {expected} finite numbers, of {modality.bands}")
    return value


def _split(text: str, known: Collection[str]) -> tuple[str | None, str]:
    """`KEY=FILE` as key and file if the model knows the key; otherwise the whole text is a file."""
    key, sign, path = text.partition("=")
    return (key, os.path.expanduser(path)) if sign and key in known else (None, text)


def open_raster(path: str) -> Any:
    """An open raster.

    Raises:
        RasterError: the file is missing, or GDAL cannot read it.
    """
    if not Path(path).is_file():
        what = (
            "is a folder; give the files in it"
            if Path(path).is_dir()
            else f"does not exist. {missing_hint(path, 'Check its name.')}"
        )
        raise RasterError(f"{path} {what}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # reported by a clearer error
            return rasterio.open(path)
    except (rasterio.errors.RasterioError, ValueError, OSError) as error:
        raise RasterError(f"{path} is not a readable raster ({error}). {AGAIN}") from error


def find_bands(
    keys: Sequence[str | None], files: Sequence[Any], inputs: Mapping[str, Modality], given: Sequence[str] | None
) -> dict[str, list[tuple[int, int]]]:
    """The location of each band of each image modality: number of the file, and index in it from 1.

    Raises:
        BandError: see `Scene`.
    """
    names = [_names_of(file) for file in files]
    if given is not None:
        total = sum(file.count for file in files)
        if len(given) != total or isinstance(given, str):
            raise BandError(f"{len(given)} names of bands {tuple(given)}; the files have {total} bands: name each")
        rest = iter(given)
        names = [[next(rest) for _ in each] for each in names]
    unnamed = [] if given is not None else [number for number, file in enumerate(files) if not any(file.descriptions)]
    images = [key for key, modality in inputs.items() if modality.kind == "image"]
    found = {}
    for key in images:
        bands = (key,) if inputs[key].codes else inputs[key].bands  # a map of classes is one band of a file
        hits = [_hits(key, band, len(bands) == 1, keys, names) for band in bands]
        if not any(hits):
            possible = [
                number for number in unnamed if keys[number] == key or (keys[number] is None and len(images) == 1)
            ]
            if len(possible) == 1 and files[possible[0]].count == len(bands):
                hits = [[(possible[0], index)] for index in range(1, len(bands) + 1)]
                warnings.warn(
                    f"the bands of {files[possible[0]].name} have no names; they are taken for {bands}, in this order. "
                    "Name them with --bands if that is not so",
                    DataWarning,
                    stacklevel=4,
                )
        for band, hit in zip(bands, hits, strict=True):
            if len(hit) != 1:
                what = "no file has it" if not hit else "it is there more than once"
                have = [
                    f"{os.path.basename(file.name)}: {', '.join(name or 'unnamed' for name in listed)}"
                    for file, listed in zip(files, names, strict=True)
                ]
                raise BandError(
                    f"the model reads band {band!r} of {key!r}, and {what}; the bands of the files are {have}. Name "
                    "them with --bands (one name for each band of the files, in their order), or say what a file is: "
                    f"{key}=FILE, or {band}=FILE for a file of one band. Scenes side by side are mapped one by one, or "
                    "merged first (gdalbuildvrt)."
                )
        found[key] = [place for hit in hits for place in hit]
    return found


def _hits(
    key: str, band: str, is_only: bool, keys: Sequence[str | None], names: Sequence[Sequence[str]]
) -> list[tuple[int, int]]:
    """The locations of a band of a modality, by the stated keys of the files and the names of their bands."""
    wanted = (band, key) if is_only else (band,)  # the elevation of a file may be called `dem`
    hits = []
    for number, (stated, listed) in enumerate(zip(keys, names, strict=True)):
        if len(listed) == 1 and (stated == band or (stated == key and is_only)):
            hits.append((number, 1))
        elif stated in (None, key, band):
            hits += _places(number, listed, wanted)
    return hits


def _names_of(file: Any) -> list[str]:
    """The names of the bands of a file; a single band without description is named by the end of the file name."""
    if file.count == 1 and not file.descriptions[0]:
        words = re.split(r"[_\s.-]+", Path(file.name).stem)
        return [next((word for word in reversed(words) if _NUMBERED.fullmatch(word.casefold())), words[-1])]
    return [description or "" for description in file.descriptions]


def _places(number: int, names: Sequence[str], wanted: Collection[str]) -> list[tuple[int, int]]:
    """The locations of bands with one of these names in file `number`; `B2`, `b02`, `Band 2` and `B02` are equal."""
    spellings = {spelling(name) for name in wanted}
    return [(number, index) for index, name in enumerate(names, 1) if spelling(name) in spellings]


def spelling(name: str) -> str:
    """A name of a band in a normalised spelling: without capitals, leading zeros, and the word `band`."""
    text = name.strip().casefold()
    match = _NUMBERED.fullmatch(text)
    return f"b{match[1]}" if match else text
