"""Random damage to tables, ids, splits and units: the right samples, or an error or warning that names the file."""

import shutil
import tempfile
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bengelib.data.consistency import check_meta
from bengelib.data.plausible import check_together, check_values
from bengelib.data.splits import SPLITS, official_split
from bengelib.data.tables import read_meta, read_table
from bengelib.errors import BengeError, DataWarning
from bengelib.identity import tile_origin, utm
from tests.fake_tree import write_fake_tree

COUNTS = [pytest.param(60, id="quick"), pytest.param(200, id="thorough", marks=pytest.mark.slow)]
KEYS = ("lonlat", "season", "climate_zone", "weather", "land_cover_fractions")
TABLES = {"lonlat": "meta", "season": "meta", "climate_zone": "meta", "weather": "era-5"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables and split files of thirty patches, without anything else."""
    tree = write_fake_tree(tmp_path_factory.mktemp("whole") / "tree", 30)
    root = tmp_path_factory.mktemp("tables") / "tree"
    root.mkdir()
    for path in tree.glob("*.csv"):
        shutil.copy(path, root)
    shutil.copytree(tree / "splits", root / "splits")
    return root


def trial(root):
    """A copy to be damaged."""
    folder = tempfile.TemporaryDirectory()
    return folder, Path(shutil.copytree(root, Path(folder.name) / root.name))


def hold(examples, *strategies):
    """Run a property on so many examples, always the same ones."""

    def run(check):
        settings(max_examples=examples, derandomize=True, deadline=None, database=None)(given(*strategies)(check))()

    return run


def outcome(action, file):
    """What an action answers; None where it refuses or warns, naming the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = action()
        except BengeError as error:
            assert file in str(error), error
            assert "Fetch" not in str(error), error
            return None
    if told := [str(each.message) for each in caught if issubclass(each.category, DataWarning)]:
        assert all(file in words for words in told), told
        return None
    return answer


# -------------------------------------------------------------------------------- I: tables as people save them


def _fields(change):
    return lambda text, chance: "\n".join(",".join(change(v, chance) for v in ln.split(",")) for ln in text.split("\n"))


def _some_lines(change):
    return lambda text, chance: "\n".join(change(ln) if chance.random() < 0.5 else ln for ln in text.split("\n"))


def _insert(line):
    def change(text, chance):
        lines = text.split("\n")
        lines.insert(chance.randrange(len(lines)), line or lines[0])
        return "\n".join(lines)

    return change


SAVED = {
    "commas at the end": _some_lines(lambda line: line and line + ","),
    "many commas at the end": _some_lines(lambda line: line and line + ", ,,"),
    "quotes": _fields(lambda value, chance: f'"{value}"' if value and chance.random() < 0.5 else value),
    "blanks": _fields(lambda value, chance: f" {value}" if value and chance.random() < 0.5 else value),
    "blank lines": _insert("  "),
    "a row of commas": _insert(",,,,,,,"),
    "a header again": _insert(""),
    "decimal commas": _some_lines(lambda line: line.replace(".", ",")),
    "quoted decimal commas": _fields(
        lambda value, chance: f'"{value.replace(".", ",")}"' if "." in value and chance.random() < 0.5 else value
    ),
    "semicolons": lambda text, chance: text.replace(",", ";"),
    "tabs": lambda text, chance: text.replace(",", "\t"),
    "row numbers": lambda text, chance: "\n".join(f"{i or ''},{ln}" for i, ln in enumerate(text.split("\n")) if ln),
    "a note": lambda text, chance: f"sep={chance.choice(',;')}\n{text}",
    "a comment": _insert("# from Monday on"),
    "thousands set apart": _fields(
        lambda value, chance: f'"{value[:1]},{value[1:4]}"' if "." in value and chance.random() < 0.5 else value
    ),
    "capitals": lambda text, chance: text.split("\n", 1)[0].upper() + "\n" + text.split("\n", 1)[-1],
    "no header": lambda text, chance: text.split("\n", 1)[-1],
    "a value lost": lambda text, chance: ",".join(text.split(",")[: -chance.randint(1, 8)]) + "\n",
    "a column twice": lambda text, chance: "\n".join(f"{ln},{ln.split(',')[-1]}" for ln in text.split("\n") if ln),
    "ends of lines": lambda text, chance: text.replace("\n", chance.choice(["\r\n", "\r"])),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")


@pytest.mark.parametrize("examples", COUNTS)
def test_tables_are_read_rightly_or_refused_however_they_were_saved(tables, examples):
    meta = read_meta(tables)
    expected = {key: read_table(tables, meta, key) for key in KEYS}

    @hold(
        examples,
        st.sampled_from(KEYS),
        st.lists(st.sampled_from(sorted(SAVED)), min_size=1, max_size=2),
        st.sampled_from((*ENCODINGS[:2] * 4, *ENCODINGS)),
        st.integers(0, 2**32 - 1),
    )
    def check(key, damages, encoding, seed):
        chance = Random(seed)
        folder, root = trial(tables)
        with folder:
            path = root / f"tree_{TABLES.get(key, 'esaworldcover')}.csv"
            text = path.read_text()
            for damage in damages:
                text = SAVED[damage](text, chance)
            path.write_bytes(text.encode(encoding))
            answer = outcome(lambda: (m := read_meta(root)) is not None and (m, read_table(root, m, key)), path.name)
        if answer is not None:
            names = ["patch_id", "patch_id_s1", "timestamp_s2", "timestamp_s1"]
            pd.testing.assert_frame_equal(answer[0][names], meta[names])
            np.testing.assert_array_equal(answer[1], expected[key])


SPLIT_DAMAGES = {
    "a header": lambda lines, chance: [chance.choice(["patch_id", '"patch_id"', "id", "0", "train"]), *lines],
    "row numbers": lambda lines, chance: [f"{number},{line}" for number, line in enumerate(lines)],
    "a further column": lambda lines, chance: [f"{line}{chance.choice(',;')}forest" for line in lines],
    "quotes": lambda lines, chance: [f'"{line}"' for line in lines],
    "commas at the end": lambda lines, chance: [f"{line}," if chance.random() < 0.5 else line for line in lines],
    "blanks": lambda lines, chance: [f" {line} " if chance.random() < 0.5 else line for line in lines],
    "blank lines": lambda lines, chance: [part for line in lines for part in (line, "")],
    "a comment": lambda lines, chance: [*lines[:1], chance.choice(["# more", "//"]), *lines[1:]],
    "names of files": lambda lines, chance: [f"{line}.tif" for line in lines],
    "one line": lambda lines, chance: [chance.choice([",", ";", " ", "\t"]).join(lines)],
    "a patch twice": lambda lines, chance: [*lines, chance.choice(lines)],
    "another's patch": None,
}


@pytest.mark.parametrize("examples", COUNTS)
def test_splits_are_read_rightly_or_refused_however_they_were_saved(tables, examples):
    ids = list(read_meta(tables).index)
    files = {"train": "tree_train.csv", "val": "tree_validation.csv", "test": "tree_test.csv"}
    expected = {split: official_split(tables, "tree", split, ids) for split in SPLITS}

    @hold(
        examples,
        st.sampled_from(SPLITS),
        st.sampled_from(SPLITS),
        st.lists(st.sampled_from(sorted(SPLIT_DAMAGES)), min_size=1, max_size=2),
        st.sampled_from(ENCODINGS),
        st.integers(0, 2**32 - 1),
    )
    def check(split, asked, damages, encoding, seed):
        chance = Random(seed)
        folder, root = trial(tables)
        with folder:
            path = root / "splits" / files[split]
            lines = path.read_text().split()
            for damage in damages:
                if SPLIT_DAMAGES[damage]:
                    lines = SPLIT_DAMAGES[damage](lines, chance)
                else:
                    other = chance.choice([name for name in SPLITS if name != split])
                    lines = [*lines, chance.choice(expected[other])]
            path.write_bytes("\n".join(lines).encode(encoding))
            answer = outcome(lambda: official_split(root, "tree", asked, ids), path.name)
        if answer is not None:
            assert answer == expected[asked]

    assert all(len(found) > 1 for found in expected.values())


# --------------------------------------------------------------------------------------- E: what belongs together


@pytest.mark.parametrize("examples", COUNTS)
def test_columns_that_no_longer_belong_to_their_rows_are_noticed(tables, examples):
    """Columns that are shifted, sorted, mixed, filled or swapped by themselves."""
    whole = read_meta(tables)
    groups = [["patch_id_s1"], ["lon"], ["lat"], ["lon", "lat"], ["timestamp_s2"], ["timestamp_s1"], ["season_s2"]]
    groups += [["season_s1"], ["patch_id_s1", "timestamp_s1", "season_s1"], ["patch_id"]]

    def moved(before, after):
        """Whether a patch is told something else than before, more than can be told by the ids."""
        epsg = np.array([tile_origin(name.split("_")[5])[0] for name in whole["patch_id_s1"]])
        places = [utm(table["lon"].to_numpy(), table["lat"].to_numpy(), epsg) for table in (before, after)]
        partner = dict(zip(before["patch_id"], before["patch_id_s1"], strict=True))
        other = any(partner[a] != b for a, b in zip(after["patch_id"], after["patch_id_s1"], strict=True))
        return (
            other
            or (np.abs(places[0] - places[1]) > 710).any()
            or (before[["timestamp_s2", "timestamp_s1"]] != after[["timestamp_s2", "timestamp_s1"]]).to_numpy().any()
            or (np.abs(before[["season_s2", "season_s1"]] - after[["season_s2", "season_s1"]]) > 0.012).to_numpy().any()
        )

    @hold(
        examples,
        st.sampled_from(groups),
        st.sampled_from(["shifted", "sorted", "mixed", "filled", "exchanged"]),
        st.permutations(range(len(whole))),
        st.integers(1, len(whole) - 1),
    )
    def check(columns, damage, order, step):
        after = whole.reset_index(drop=True)
        values = np.array(after[columns], dtype=object)
        if damage == "shifted":
            values = np.roll(values, step, axis=0)
        elif damage == "sorted":
            values = np.array(sorted(values.tolist()), dtype=object).reshape(values.shape)
        elif damage == "mixed":
            values = values[order]
        elif damage == "filled":
            values[step:] = values[step - 1]
        else:
            one, other = order[:2]
            values[[one, other]] = values[[other, one]]
        for place, column in enumerate(columns):
            after[column] = pd.Series(values[:, place]).astype(whole[column].dtype)
        passed = outcome(lambda: check_meta(after, Path("tree_meta.csv")) or True, "tree_meta.csv")
        assert not (passed and moved(whole.reset_index(drop=True), after))

    check_meta(whole, Path("tree_meta.csv"))


# --------------------------------------------------------------------------------------------------- D: units


UNITS = [
    ("weather", "temperature_s2", lambda v: v - 273.15, True),
    ("weather", "temperature_s2", lambda v: (v - 273.15) * 1.8 + 32, True),
    ("weather", "temperature_s2", lambda v: v * 0 - 9999, True),
    ("weather", "atmpressure_level", lambda v: v * 100, True),
    ("weather", "atmpressure_level", lambda v: v / 10, True),
    ("weather", "relhumidity_s2", lambda v: v / 100, False),
    ("weather", "relhumidity_s2", lambda v: v * 100, True),
    ("weather", "wind-u_s2", lambda v: v * 0 + 9999, True),
    ("season", "season_s2", lambda v: v * 100, True),
    ("season", "season_s2", lambda v: 365 * v, True),
    ("lonlat", "lon", lambda v: v * 1e5, True),
    ("lonlat", "lat", lambda v: v * 1e5, True),
    ("lonlat", "lon", lambda v: (v + 360).where(v >= 0, v + 360), True),
    ("land_cover_fractions", "grassland", lambda v: v * 100 + 1.5, True),
    ("land_cover_fractions", "cropland", lambda v: v - 0.3, True),
    ("land_cover_fractions", "tree_cover", lambda v: v * 0 - 1, True),
]


@pytest.mark.parametrize("examples", COUNTS)
def test_tables_in_other_units_are_noticed(tables, examples):
    count = len(read_meta(tables))

    @hold(examples, st.sampled_from(range(len(UNITS))), st.lists(st.booleans(), min_size=count, max_size=count))
    def check(number, rows):
        key, column, change, in_part = UNITS[number]
        folder, root = trial(tables)
        with folder:
            path = root / f"tree_{TABLES.get(key, 'esaworldcover')}.csv"
            table = pd.read_csv(path)
            chosen = np.array(rows) if in_part else np.ones(count, dtype=bool)
            chosen[0] = True
            table[column] = table[column].astype(float).where(~chosen, change(table[column].astype(float)))
            table.to_csv(path, index=False)
            assert outcome(lambda: read_table(root, read_meta(root), key), path.name) is None

    for key in KEYS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_table(tables, read_meta(tables), key)


@pytest.mark.parametrize("examples", COUNTS)
def test_radar_that_is_no_decibels_is_refused_and_decibels_never_are(examples):
    @hold(
        examples,
        st.floats(-28, 3),
        st.floats(0.5, 6),
        st.floats(0, 0.02),
        st.sampled_from(["dB", "power", "amplitude", "numbers", "bels", "sign lost", "scaled"]),
        st.floats(-2, 4),
        st.integers(0, 2**32 - 1),
    )
    def check(mean, spread, bright, unit, calibration, seed):
        random = np.random.default_rng(seed)
        looks = 10 * np.log10(random.gamma(4.4, 1 / 4.4, (120, 120)))  # speckle
        decibels = mean + looks + random.normal(0, spread, (120, 120))
        corners = random.random((120, 120)) < bright
        decibels = np.clip(np.where(corners, decibels + 25, decibels), -75, 35)
        pixels = {
            "dB": decibels,
            "power": 10 ** (decibels / 10 + calibration),
            "amplitude": 10 ** (decibels / 20 + calibration),
            "numbers": np.rint(10 ** (decibels / 20 + 3)),
            "bels": np.clip(decibels, -29, 35) / 10,
            "sign lost": np.abs(decibels),
            "scaled": np.clip((decibels + 25) / 25, 0, 1),
        }[unit].astype(np.float32)
        answer = outcome(lambda: check_values("s1", pixels, "patch_VV.tif") or True, "patch_VV.tif")
        assert bool(answer) == (unit == "dB")


@pytest.mark.parametrize("examples", COUNTS)
def test_an_offset_left_in_is_noticed_and_bright_patches_are_not_mistaken_for_it(examples):
    @hold(
        examples,
        st.integers(2, 20),
        st.floats(0, 1),
        st.integers(0, 1),
        st.integers(1, 700),
        st.integers(0, 2**32 - 1),
    )
    def check(count, share, clouds, darkest, seed):
        random = np.random.default_rng(seed)
        pixels = random.integers(darkest, 5000, (count, 4, 12, 12)).astype(np.uint16)
        pixels[:, 0, 0, 0] = darkest
        pixels[:, :, 1] = 0  # no data
        pixels[:clouds][pixels[:clouds] > 0] += 4000
        offset = random.random(count) < share
        raised = np.where((pixels > 0) & offset[:, None, None, None], pixels + 1000, pixels).astype(np.uint16)
        told = outcome(lambda: check_together({"s2_10m": raised}, "tree") or True, "tree") is None
        number = int((offset | (np.arange(count) < clouds)).sum())
        assert told == (number >= max(2, 0.2 * count))
