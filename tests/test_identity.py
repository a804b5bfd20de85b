"""Ids, seasons, tiles and coordinates, against those of real patches."""

from datetime import date

import numpy as np
import pytest
from rasterio.warp import transform

from bengelib.identity import patch_corner, read_id, season, tile_origin, utm

REAL = [  # rows of ben-ge's own meta table
    ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48", 13.72095, 48.22231),
    ("S1A_IW_GRDH_1SDV_20170617T064724_29UPU_4_55", -7.4423, 52.64069),
    ("S1A_IW_GRDH_1SDV_20170925T043256_35VPK_69_24", 30.59994, 62.81962),
    ("S1A_IW_GRDH_1SDV_20171221T064238_29SND_56_35", -8.21321, 39.36376),
    ("S1B_IW_GRDH_1SDV_20170929T045327_34TCR_64_46", 19.42963, 45.54054),
    ("S1B_IW_GRDH_1SDV_20171101T153951_35VNJ_78_77", 28.76286, 61.38551),
]


@pytest.mark.parametrize(("patch_id", "lon", "lat"), REAL)
def test_ids_say_where_a_patch_is(patch_id, lon, lat):
    identity = read_id(patch_id)
    epsg, left, top = tile_origin(identity.tile)
    position = utm(np.array([lon]), np.array([lat]), np.array([epsg]))[0]
    middle = left + 1200 * identity.column + 600, top - 1200 * identity.row - 600
    np.testing.assert_allclose(position, middle, atol=2)  # five decimals of a degree are a metre


@pytest.mark.parametrize(
    ("patch_id", "expected"),
    [
        ("S2A_MSIL2A_20171101T94132_78_77", ("20171101", "", 78, 77)),  # five digits
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57", ("20170613", "33UUP", 26, 57)),  # BigEarthNet v2
        ("S1B_IW_GRDH_1SDV_20171101T153951_35VNJ_78_77", ("20171101", "35VNJ", 78, 77)),
        ("S2A_MSIL2A_20171101T94132", None),
        ("S1B_IW_GRDH_1SDV_20171101T153951_78_77", None),
        ("field 12", None),
        ("", None),
    ],
)
def test_what_an_id_says(patch_id, expected):
    assert read_id(patch_id) == expected


@pytest.mark.parametrize("epsg", [32601, 32633, 32660, 32756])
def test_coordinates_are_those_of_proj(epsg):
    random = np.random.default_rng(0)
    lat = random.uniform(0, 83, 200) * (1 if epsg < 32700 else -0.95)
    lon = 6 * (epsg % 100) - 183 + random.uniform(-4, 4, 200)
    expected = np.stack(transform("EPSG:4326", f"EPSG:{epsg}", (lon + 180) % 360 - 180, lat), axis=1)
    np.testing.assert_allclose(utm(lon, lat, np.full(200, epsg)), expected, atol=1)


@pytest.mark.parametrize(("tile", "lon", "lat"), [("55HCU", 144.96, -37.81), ("18TWL", -74.0, 40.7)])
def test_tiles_of_both_hemispheres(tile, lon, lat):
    """Melbourne and New York."""
    epsg, left, top = tile_origin(tile)
    assert epsg == {"55HCU": 32755, "18TWL": 32618}[tile]
    east, north = utm(np.array([lon]), np.array([lat]), np.array([epsg]))[0]
    assert 0 <= east - left < 110_000 and 0 <= top - north < 110_000


@pytest.mark.parametrize(
    ("patch_id", "patch_id_s1", "corner"),
    [
        ("S2A_MSIL2A_20170613T101031_87_48", REAL[0][0], (32633, 404_400, 5_342_400)),  # as its label files say
        ("S2B_MSIL2A_20170924T93020_69_24", REAL[2][0], (32635, 682_800, 6_971_220)),
        ("field 12", REAL[0][0], (32633, 404_400, 5_342_400)),
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_87_48", "radar 12", (32633, 404_400, 5_342_400)),
        ("S2A_MSIL2A_20170613T101031_87_48", "radar 12", None),  # names no tile
        ("S2A_MSIL2A_20170613T101031_87_49", REAL[0][0], None),  # contradicts the other
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UVP_87_48", REAL[0][0], None),
        ("field 12", "S1A_IW_GRDH_1SDV_20170613T165043_99UUP_87_48", None),  # no such tiles
        ("field 12", "S1A_IW_GRDH_1SDV_20170613T165043_33UAP_87_48", None),
        ("field 12", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_870_48", None),
        ("field 12", "radar 12", None),
    ],
)
def test_the_corner_of_a_patch(patch_id, patch_id_s1, corner):
    assert patch_corner(patch_id, patch_id_s1) == corner


def test_the_season_of_a_date():
    assert season(date(2017, 12, 21)) == 0.00699
    assert season(date(2018, 2, 28)) == 0.55805
