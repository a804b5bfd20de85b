import pytest

from bengelib.data.description import is_described, read_description
from bengelib.errors import BandError, DatasetNotFoundError, DescriptionError, DiskError
from bengelib.modalities import Target
from tests.described_folders import CROPS, write_toml

IMAGE = '[modalities.s2]\nkind = "image"\nfiles = "{id}.tif"\nbands = ["a", "b"]\n'


def test_a_description_is_read(tmp_path):
    made = read_description(write_toml(tmp_path, CROPS))
    assert (made.name, made.licence, made.citation, made.scheme) == ("crops", "CC-BY-4.0", "", "blocked")
    assert made.samples == {"table": "samples.csv", "group": "site", "id": "id"}
    assert list(made.modalities) == ["s2", "weather"] and list(made.targets) == ["crop", "cover", "harvest"]
    s2, weather, cover = made.source("s2"), made.source("weather"), made.source("cover")
    assert (s2.bands, s2.scale, s2.unit, s2.offset) == (
        ("B02", "B03", "B04", "B08"),
        (0.0001,) * 4,
        ("reflectance",) * 4,
        (),
    )
    assert (weather.kind, weather.columns, weather.bands, weather.unit) == (
        "vector",
        ("rain", "heat"),
        ("rain", "heat"),
        ("mm", "K"),
    )
    assert (cover.codes, cover.classes, cover.no_data) == ((10, 20, 30), ("field", "wood", "water"), (0,))
    assert cover.target == Target("cover", "map", ("field", "wood", "water"))
    assert made.source("harvest").target == Target("harvest", "number", unit="t/ha")
    assert s2.where == f"{made.path}: [modalities.s2]" and is_described(tmp_path)
    with pytest.raises(BandError, match=r"has no 'soil'; it has"):
        made.source("soil")


def test_the_least_that_describes_a_dataset(tmp_path):
    made = read_description(write_toml(tmp_path / "two words é", "\ufeff" + IMAGE))  # with the mark of an editor
    assert (made.name, made.scheme, made.samples) == ("two words é", "study", {"id": "id"})
    assert made.source("s2").unit == ("", "")


def test_no_description_no_toml_and_no_file(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no dataset.toml in .*describe --root"):
        read_description(tmp_path)
    for content in (b"[samples\n", b"a = 1\na = 2", b"name = '\xe9'"):
        (tmp_path / "dataset.toml").write_bytes(content)
        with pytest.raises(DescriptionError, match=r"dataset.toml is not TOML"):
            read_description(tmp_path)
    (tmp_path / "dataset.toml").unlink()
    (tmp_path / "dataset.toml").mkdir()
    with pytest.raises(DiskError, match=r"dataset.toml"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "describes no modality"),
        ("datasets = 1\n", r"unknown key 'datasets'; did you mean 'dataset'"),
        ("dataset = 1\n", r"dataset is 1; expected a table \[dataset\]"),
        ("[dataset]\nlicense = 'MIT'\n", r"\[dataset\] has an unknown key 'license'; did you mean 'licence'"),
        ("[dataset]\nname = 3\n", r"\[dataset\] name = 3; expected a text"),
        ("[samples]\nlongitude = 'lon'\n", r"\[samples\] latitude = 'nothing'; expected both"),
        ("[samples]\nblock = 0.5\n", r"block = 0.5; expected .*longitude"),
        ("[samples]\nlongitude='x'\nlatitude='y'\nblock = -1\n", r"block = -1; expected degrees, more than 0"),
        ("[samples]\ntable = 'x.xlsx'\n", r"table = 'x.xlsx'; expected a file .csv or .parquet"),
        ("[samples]\ntable = '../x.csv'\n", r"\[samples\] table = '../x.csv'; expected a path within"),
        ("[samples]\ntable = '/x.csv'\n", r"expected a path within"),
        ("[samples]\nid = ''\n", r"id = ''; expected a text"),
        ("[modalities]\ns2 = 3\n", r"modalities.s2 is 3; expected a table"),
        ("[modalities.s2]\nkind = 'cube'\n", r"kind = 'cube'; expected one of \['image', 'map', 'vector', 'scalar'\]"),
        ("[modalities.s2]\nkind = ['image']\n", r"kind = \['image'\]; expected one of"),
        ("[modalities.s2]\n", r"kind = 'nothing'; expected one of"),
        ("[modalities.'s 2']\nkind = 'image'\n", "expected another name, of letters, digits"),
        ("[modalities.patch_id]\nkind = 'image'\n", "expected another name"),
        ("[modalities.s2_available]\nkind = 'image'\n", "expected another name"),
        (IMAGE + "no_date = 0\n", r"\[modalities.s2\] has an unknown key 'no_date'; did you mean 'no_data'"),
        (IMAGE.replace('"{id}.tif"', '"../{id}.tif"'), r"files = '../{id}.tif'; expected a path within"),
        (IMAGE.replace("{id}", "{name}"), r"files = '{name}.tif'; expected a pattern with {id}, since no table"),
        (IMAGE.replace("{id}.tif", "image.tif"), "so that each sample has files of its own"),
        (IMAGE.replace("{id}", "{band}"), "so that each sample has files of its own"),
        (IMAGE.replace('["a", "b"]', '"RGB"'), "bands = 'RGB'; expected a list of names"),
        (IMAGE.replace('["a", "b"]', '["a", "a"]'), "names that differ from each other"),
        (IMAGE.replace('["a", "b"]', '["a", " "]'), "expected a list of names"),
        (IMAGE.replace('["a", "b"]', "[]"), "expected one name or more"),
        (IMAGE.replace("{id}", "{id}_{band}").replace('"b"', '"b/c"'), r"in place of {band}, which \['b/c'\] are not"),
        (IMAGE + "unit = 5\n", "unit = 5; expected a text, or a list of 2"),
        (IMAGE + "unit = ['m']\n", "expected a text, or a list of 2"),
        (IMAGE + "scale = [1, 2, 3]\n", r"scale = \[1, 2, 3\]; expected a finite number, or a list of 2"),
        (IMAGE + "scale = 0\n", "scale = 0; expected numbers other than 0"),
        (IMAGE + "scale = nan\n", "expected a finite number"),
        (IMAGE + "offset = true\n", "offset = True; expected a finite number"),
        (IMAGE + "no_data = 'none'\n", "no_data = 'none'; expected a number"),
        (IMAGE + "size = 0\n", "size = 0; expected a whole number of 1 or more"),
        (IMAGE + "size = true\n", "size = True; expected a whole number"),
        (IMAGE + "layers = [0, 1]\n", r"layers = \[0, 1\]; expected a list of whole numbers from 1"),
        (IMAGE + "layers = [3]\n", r"layers = \[3\]; expected 2 different ones"),
        (IMAGE + "layers = [3, 3]\n", "expected 2 different ones"),
        (IMAGE.replace("{id}", "{id}_{band}") + "layers = [1, 2]\n", r"no {band} in files"),
        ("[modalities.x]\nkind='vector'\ncolumns=[]\n", "columns = .*expected one name or more"),
        ("[modalities.x]\nkind='vector'\ncolumn='a'\ncolumns=['b']\n", "expected column or columns, not both"),
        ("[modalities.x]\nkind='vector'\ncolumns=['a']\nbands=['b','c']\n", "expected one column for each band"),
        ("[modalities.x]\nkind='scalar'\ncolumns=['a','b']\n", "expected one column for each band"),
        ("[modalities.x]\nkind='scalar'\ncolumn='a'\n", "names neither files nor a table: add `table`"),
        ("[modalities.x]\nkind='map'\nfiles='{id}.png'\n", "classes = 'nothing'; expected a table from stored number"),
        ("[modalities.x]\nkind='map'\nfiles='{id}.png'\nclasses={a='b'}\n", "expected whole numbers as keys"),
        ("[modalities.x]\nkind='map'\nfiles='{id}_{band}.png'\nclasses={1='b'}\n", "without {band}"),
        ("[modalities.x]\nkind='map'\nfiles='{id}.png'\nclasses={1='a',2='a'}\n", "that differ from each other"),
        ("[modalities.x]\nkind='map'\nfiles='{id}.png'\nclasses={1='a',01='b'}\n", "that differ from each other"),
        (
            "[modalities.x]\nkind='map'\nfiles='{id}.png'\nclasses={1='a',2='b'}\nno_data=1\n",
            r"not classes, which \[1\]",
        ),
        (IMAGE + "[targets.y]\nkind='class'\ncolumn='c'\nclasses=['a']\n", "it needs two or more"),
        (IMAGE + "[targets.y]\nkind='class'\ncolumn='c'\nclasses=[1, 2]\n", "expected a list of names"),
        (IMAGE + "[targets.y]\nkind='class'\nclasses=['a','b']\n", "column = 'nothing'; expected a text"),
        (IMAGE + "[targets.y]\nkind='map'\nfiles='m/{id}.png'\nclasses={1='a'}\n", "it needs two or more"),
        (IMAGE + "[targets.y]\nkind='class'\ncolumn='c'\nclasses=['a','b']\ncolours=['red','blue']\n", "hexadecimal"),
        (IMAGE + "[targets.y]\nkind='class'\ncolumn='c'\nclasses=['a','b']\ncolours=['#ff0000']\n", "1 colours"),
        (IMAGE + "[targets.y]\nkind='labels'\ncolumn='c'\nclasses=['a']\nseparator=''\n", "between two labels"),
        (IMAGE + "[targets.y]\nkind='number'\ncolumn='c'\nclasses=['a']\n", "unknown key 'classes'"),
        (IMAGE + "[targets.s2]\nkind='number'\ncolumn='c'\n", r"\['s2'\] as modality and as target"),
        (
            IMAGE + f"[targets.y]\nkind='class'\ncolumn='c'\nclasses={[str(n) for n in range(255)]}\n",
            "fewer than 255, the number of what is unknown",
        ),
    ],
)
def test_a_description_that_cannot_be_is_refused_with_file_key_and_fix(tmp_path, text, words):
    with pytest.raises(DescriptionError, match=words) as caught:
        read_description(write_toml(tmp_path, text))
    assert str(tmp_path / "dataset.toml") in str(caught.value)


def test_nothing_is_no_number_but_is_no_data_anyway(tmp_path):
    made = read_description(write_toml(tmp_path, IMAGE + "no_data = [nan, -9999, inf]\n"))
    assert made.source("s2").no_data == (-9999.0,)


def test_what_is_stored_does_not_depend_on_scale_and_unit(tmp_path):
    """So that a pack stays when they are corrected."""
    one = read_description(write_toml(tmp_path / "a", IMAGE)).source("s2")
    other = read_description(write_toml(tmp_path / "b", IMAGE + "scale = 0.1\noffset = 3\nunit = 'm'\n")).source("s2")
    third = read_description(write_toml(tmp_path / "c", IMAGE + "no_data = 3\n")).source("s2")
    assert one.stored == other.stored != third.stored
