import re
from base64 import b64decode

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from bengelib import plot
from bengelib.bands import CLIMATE_ZONES, IGNORE_INDEX, LAND_COVER, S2_BANDS
from bengelib.data.dataset import BENGE
from bengelib.data.patches import KEYS
from bengelib.engine import History
from bengelib.errors import BandError
from bengelib.intervals import Interval
from bengelib.plot import style

NOTE = "simulated data (ben-ge-sim)"


@pytest.fixture(autouse=True)
def _nothing_stays_open():
    """A figure that stays open in pyplot is shown twice by a notebook and never freed."""
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def sample(fake_tree):
    return BENGE(fake_tree, modalities=KEYS, targets=())[0]


def texts(figure):
    """Everything that is written on a figure, drawn for real first."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def histories():
    rows = [
        {"epoch": epoch, "train/loss": 1 / epoch, "val/loss": 1.1 / epoch, "val/zone/accuracy": 1 - 0.5 / epoch}
        for epoch in (1, 2, 3)
    ]
    return {"Sentinel-2": History(rows, best_epoch=2), "Sentinel-1": History(rows, best_epoch=3)}


def each_figure(sample, note=NOTE):
    interval = Interval(0.7, 0.6, 0.8)
    gates = {"s2": np.full((4, 4), 0.25), "s1": np.full((4, 4), 0.75)}
    return {
        "bars": lambda: plot.plot_bars({"S2": {"water": interval}, "S1": {"water": interval}}, "F1", note=note),
        "curves": lambda: plot.plot_curves({"S2": {0.0: interval, 1.0: interval}}, "cloud", "F1", ("S1", 0.4), note),
        "curve_panels": lambda: plot.plot_curve_panels({"S2": {0.1: interval}}, "labels", "F1", {}, note),
        "gates": lambda: plot.plot_gates(sample, gates, note=note),
        "monitor": lambda: plot.plot_monitor(histories(), {"train/loss": "loss", "val/loss": "again"}, note),
        "regions": lambda: plot.plot_regions(
            np.array([[10.0, 50.0], [12.0, 51.0]]), np.array([0, 9]), np.array([[10.0, 50.0]] * 10), note
        ),
        "reconstructions": lambda: plot.plot_reconstructions({"seen": np.full((2, 12, 4, 4), 0.1)}, note=note),
        "embedding": lambda: plot.plot_embedding(
            np.arange(8.0).reshape(4, 2), {"cover": ["a", "b", "a", "b"], "season": np.arange(4.0)}, note
        ),
        "sample": lambda: plot.plot_sample(sample, note=note),
        "patches": lambda: plot.plot_patches([sample] * 7, ["first"], note=note),
        "counts": lambda: plot.plot_counts({"train": np.array([0, 0, 1])}, ("a", "b"), "class", note),
        "map": lambda: plot.plot_map(np.array([[10.0, 50.0], [11.0, 51.0]]), ["train", "test"], note=note),
        "history": lambda: plot.plot_history(histories(), "val/zone/accuracy", "accuracy", note=note),
        "confusion": lambda: plot.plot_confusion(np.array([0, 2, 2]), np.array([0, 0, 2]), ("a", "b", "c"), note=note),
        "intervals": lambda: plot.plot_intervals({"S2": interval}, "accuracy", ("majority class", 0.3), note=note),
        "maps": lambda: plot.plot_maps(maps(), {"U-Net": [np.ones((24, 24), dtype=np.int64)] * 2}, note=note),
        "losses": lambda: plot.plot_losses({"season": {"alone": np.ones((3, 4))}}, note=note),
        "cosines": lambda: plot.plot_cosines({"a ~ b": (np.arange(4), np.zeros((3, 4)))}, note=note),
    }


FIGURES = sorted(each_figure(None))


@pytest.mark.parametrize("name", FIGURES)
def test_each_function_returns_a_figure_with_the_note(sample, name):
    figure = each_figure(sample)[name]()
    assert isinstance(figure, Figure)
    assert NOTE in texts(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_says_what_it_shows_to_those_who_do_not_see_it(sample, name):
    """A notebook stores the text beside the image, where nbconvert looks for it."""
    figure = each_figure(sample)[name]()
    data, metadata = figure._repr_mimebundle_(include=None, exclude=None)
    alt = metadata["image/png"]["alt"]
    assert b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert len(alt) > 50 and alt[0] == alt[0].upper() and NOTE[1:] in alt and alt.count("\n") == 0 and "  " not in alt


def test_names_and_numbers_become_words():
    assert [style.listed(names) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert style.listed("abcdefgh", most=4) == "a, b, c and 5 more"
    assert style.count_of([1], "patch") == "1 patch" and style.count_of("ab", "patch") == "2 patches"
    assert style.count_of("ab", "class") == "2 classes" and style.count_of("", "panel") == "0 panels"
    assert style.ranked({"S2": 0.6024, "S1": 0.5}) == "S2 0.602 and S1 0.500"


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled(sample, name):
    """Each axis with numbers at its ticks says what they are; names speak for themselves."""

    def numbered(labels):
        return any(re.fullmatch(r"\W?[.\d]+", label.get_text()) for label in labels)

    figure = each_figure(sample)[name]()
    figure.canvas.draw()
    for axis in figure.axes:
        is_colorbar = axis.get_label() == "<colorbar>"
        if axis.axison and not is_colorbar:
            assert not numbered(axis.get_xticklabels()) or axis.get_xlabel()
            assert not numbered(axis.get_yticklabels()) or axis.get_ylabel()


def test_every_function_of_the_module_is_tested_here():
    elsewhere = ("bengelib.plot.maps", "bengelib.plot.described")
    own = {name for name, value in vars(plot).items() if name.startswith("plot_") and value.__module__ not in elsewhere}
    assert {f"plot_{name}" for name in FIGURES} == own


@pytest.mark.parametrize("name", FIGURES)
def test_without_a_note(sample, name):
    assert each_figure(sample, note="")[name]().get_supxlabel() == ""


# ------------------------------------------------------------------------------------------------------------ a sample


def test_all_that_a_sample_holds_is_shown(sample):
    figure = plot.plot_sample(sample)
    shown = ["true colour", "infrared as red", "Sentinel-1 VV", "Sentinel-1 VH", "Elevation (m)", "WorldCover"]
    for words in shown:
        assert sum(words in title for title in titles(figure)) == 1, words
    written = "\n".join(texts(figure))
    lon, lat = sample["lonlat"].tolist()
    season = f"season {float(sample['season']):.2f}"
    for words in (f"{abs(lon):.3f}°", f"{lat:.3f}°", season, "285.0 K", "990.0 hPa", "climate water"):
        assert words in written
    assert f"mostly {LAND_COVER[int(sample['land_cover_top'])].label.lower()}" in written


@pytest.mark.parametrize("key", KEYS)
def test_a_sample_of_one_thing_alone(sample, key):
    figure = plot.plot_sample({key: sample[key], "patch_id": sample["patch_id"]})
    figure.canvas.draw()
    assert titles(figure)


def test_an_empty_sample_is_still_a_figure():
    assert isinstance(plot.plot_sample({"patch_id": "x"}), Figure)


def test_legend_has_the_classes_of_the_map_and_no_others(sample):
    figure = plot.plot_sample({"land_cover": sample["land_cover"]})
    legend = next(axis.get_legend() for axis in figure.axes if axis.get_legend())
    present = sorted({int(index) for index in sample["land_cover"].unique()})
    expected = ["no data" if index == IGNORE_INDEX else LAND_COVER[index].label for index in present]
    assert "no data" in expected and [text.get_text() for text in legend.get_texts()] == expected


def test_map_and_legend_have_the_same_colours():
    """Each class is drawn in its own colour whichever others are there: the published one, and built-up in black."""
    for classes in ([0, 7], [7], [4, 10, IGNORE_INDEX]):
        cover = torch.tensor(classes)[:, None].expand(-1, 4).repeat_interleave(4, dim=0)
        figure = plot.plot_sample({"land_cover": cover})
        figure.canvas.draw()
        axis = next(axis for axis in figure.axes if axis.get_title() == "WorldCover")
        drawn = axis.get_images()[0]
        legend = {
            text.get_text(): patch
            for text, patch in zip(axis.get_legend().get_texts(), axis.get_legend().get_patches(), strict=True)
        }
        for row, index in enumerate(classes):
            label, colour = (
                ("no data", "#FFFFFF")
                if index == IGNORE_INDEX
                else (LAND_COVER[index].label, "#000000" if index == 4 else LAND_COVER[index].colour)
            )
            rgb = tuple(channel / 255 for channel in bytes.fromhex(colour[1:]))
            assert drawn.to_rgba(drawn.get_array())[4 * row, 0, :3] == pytest.approx(rgb, abs=1 / 255)
            assert legend[label].get_facecolor()[:3] == pytest.approx(rgb, abs=1 / 255)


def test_predictions_stand_beside_the_truth(sample):
    prediction = {"climate_zone": 9, "land_cover": torch.zeros(120, 120, dtype=torch.int64)}
    figure = plot.plot_sample(sample, prediction)
    assert "predicted land cover" in titles(figure)
    assert f"predicted: {CLIMATE_ZONES[9].symbol}" in "\n".join(texts(figure))


def test_channels_are_titled_by_name(fake_tree):
    sample = BENGE(fake_tree, s1_bands=("VH", "VV"))[0]
    figure = plot.plot_sample(sample, s1_bands=("VH", "VV"))
    for axis in figure.axes:
        if axis.get_title().startswith("Sentinel-1"):
            place = ("VH", "VV").index(axis.get_title().split()[1])
            np.testing.assert_array_equal(axis.get_images()[0].get_array(), sample["s1"][place])


def test_names_that_do_not_fit_the_bands_are_refused(fake_tree):
    sample = BENGE(fake_tree, s2_bands=("B04", "B08"), s1_bands=("VH",))[0]
    with pytest.raises(BandError, match="s2 has 2 bands, but 12 names"):
        plot.plot_sample(sample)
    with pytest.raises(BandError, match="s1 has 1 bands, but 2 names"):
        plot.plot_sample(sample, s2_bands=("B04", "B08"))
    with pytest.raises(BandError, match="s2_bands"):
        plot.plot_patches([sample])


def test_a_sample_without_the_bands_for_colour_is_shown_in_grey_and_says_so(fake_tree):
    sample = BENGE(fake_tree, modalities=("s2",), s2_bands=("B11", "B04"))[0]
    figure = plot.plot_sample(sample, s2_bands=("B11", "B04"))
    assert "Sentinel-2 B11" in titles(figure) and not any("colour" in title for title in titles(figure))


def test_scale_follows_the_size_of_a_crop(sample):
    figure = plot.plot_sample({"s2": sample["s2"][:, :64, :64]})
    assert [axis.get_xlabel() for axis in figure.axes if axis.get_images()] == ["0.64 km"] * 2


def test_the_sample_is_not_changed(sample):
    before = {key: value.clone() for key, value in sample.items() if key != "patch_id"}
    plot.plot_sample(sample)
    plot.plot_patches([sample])
    assert all(torch.equal(sample[key], value) for key, value in before.items())


# ------------------------------------------------------------------------------------------------------- other figures


def test_composite_puts_red_green_and_blue_in_their_places():
    s2 = np.zeros((3, 2, 2), np.float32)
    s2[1, 0, 0] = 1.0  # the band named B04
    picture = plot.composite(s2, ("B02", "B04", "B03"), brightest=1.0)
    assert picture.shape == (2, 2, 3)
    assert picture[0, 0].tolist() == [1.0, 0.0, 0.0] and picture[1, 1].tolist() == [0.0, 0.0, 0.0]


def test_composite_stays_between_zero_and_one():
    random = np.random.default_rng(0)
    picture = plot.composite(random.normal(0.1, 0.2, (12, 20, 20)), S2_BANDS)
    assert 0 <= picture.min() < picture.max() <= 1


def test_composite_does_not_stretch_a_dark_patch():
    picture = plot.composite(np.full((3, 4, 4), 0.03), ("B04", "B03", "B02"))
    assert picture.max() < 0.5


def test_counts_show_every_class_that_occurs_anywhere():
    labels = {"train": np.array([0, 0, 0]), "test": np.array([2, 0, 255, 2])}  # 255: unknown
    figure = plot.plot_counts(labels, ("a", "b", "c"), "class")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "c"]
    lengths = [bar.get_width() for bar in figure.axes[0].patches]
    assert lengths == [3, 0, 1, 2]
    assert "train 3 and test 3" in figure.alt and "a 4 and c 2" in figure.alt


def test_map_puts_longitude_on_the_horizontal_axis():
    figure = plot.plot_map(np.array([[10.0, 50.0], [12.0, 51.0], [-8.0, 40.0]]), ["b", "a", "b"])
    drawn = {points.get_label(): points.get_offsets().tolist() for points in figure.axes[0].collections}
    assert drawn == {"a (1)": [[12.0, 51.0]], "b (2)": [[10.0, 50.0], [-8.0, 40.0]]}
    assert "longitude" in figure.axes[0].get_xlabel() and "latitude" in figure.axes[0].get_ylabel()


def test_a_map_enlarges_a_place_where_groups_meet():
    dense = np.random.default_rng(0).normal([10, 50], 0.01, (20, 2))
    lonlat = np.concatenate([dense, [[20.0, 60.0], [20.05, 60.0]]])
    left, right = plot.plot_map(lonlat, ["train"] * 20 + ["train", "test"]).axes
    assert right.get_xlim()[0] < 20 < right.get_xlim()[1] and right.get_ylim()[0] < 60 < right.get_ylim()[1]
    (box,) = [patch for patch in left.patches if isinstance(patch, Rectangle)]
    assert box.get_width() == pytest.approx(0.2) and box.get_x() == pytest.approx(right.get_xlim()[0])


def test_history_draws_training_and_validation_of_each_model():
    figure = plot.plot_history(histories(), "val/zone/accuracy", "accuracy")
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.get_lines()}
    assert set(lines) == {f"{name}, {part}" for name in histories() for part in ("training", "validation")}
    np.testing.assert_allclose(lines["Sentinel-2, training"].get_ydata(), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(lines["Sentinel-2, validation"].get_ydata(), [1.1, 1.1 / 2, 1.1 / 3])
    assert [line.get_xdata()[0] for line in right.get_lines() if line.get_linestyle() == ":"] == [2, 3]
    assert all(float(tick).is_integer() for axis in (left, right) for tick in axis.get_xticks())


def test_history_without_the_metric_says_what_there_is():
    with pytest.raises(ValueError, match=r"'S2'.*'val/zone/f1'.*'val/zone/accuracy'"):
        plot.plot_history({"S2": histories()["Sentinel-2"]}, "val/zone/f1", "F1")


def test_confusion_counts_rows_as_truth():
    figure = plot.plot_confusion(np.array([0, 2, 2, 2]), np.array([0, 0, 2, 2]), ("a", "b", "c"))
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "c"]  # b neither occurs nor is predicted
    np.testing.assert_allclose(axis.get_images()[0].get_array(), [[1, 0], [1 / 3, 2 / 3]])
    assert {text.get_position(): text.get_text() for text in axis.texts} == {(0, 0): "1", (0, 1): "1", (1, 1): "2"}
    assert "3 of 4 on the diagonal" in figure.alt and "c taken for a, 1 of 3 times" in figure.alt


def test_confusion_has_words_beside_the_rows_and_symbols_below_the_columns():
    figure = plot.plot_confusion(np.array([0, 1]), np.array([0, 1]), ("water", "Csa: dry_summer"))
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["water", "Csa: dry summer"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["water", "Csa"]


def test_intervals_show_the_ends_and_the_reference():
    results = {"S1": Interval(0.5, 0.4, 0.65), "S1 + S2": Interval(0.7, 0.6, 0.8)}
    figure = plot.plot_intervals(results, "accuracy", ("majority class", 0.31))
    axis = figure.axes[0]
    spans = [tuple(line.get_xdata()) for line in axis.get_lines() if len(line.get_xdata()) == 2]
    assert (0.4, 0.65) in spans and (0.6, 0.8) in spans and (0.31, 0.31) in spans
    assert {"S1", "S1 + S2", "majority class", "0.500", "0.700"} <= set(texts(figure))
    assert "0.5" in texts(plot.plot_intervals(results, "points", digits=1))


def test_from_four_curves_on_each_has_a_panel():
    curve = {0.0: Interval(0.7, 0.6, 0.8), 1.0: Interval(0.5, 0.4, 0.6)}
    together = plot.plot_curves(dict.fromkeys("abc", curve), "cloud", "accuracy", ("majority", 0.3))
    apart = plot.plot_curves(dict.fromkeys("abcd", curve), "cloud", "accuracy", ("majority", 0.3))
    assert len(together.axes) == 1 and len(together.axes[0].collections) == 3
    assert titles(apart) == list("abcd")
    assert [len(axis.collections) for axis in apart.axes] == [1] * 4  # one band a panel
    assert all(axis.get_xscale() == "linear" for axis in apart.axes)
    assert [text.get_text() for text in apart.legends[0].get_texts()] == ["majority"]
    assert "a from 0.700 to 0.500" in apart.alt


def test_a_mark_stands_in_the_panel_of_its_curve_and_in_the_legend():
    curve = {0.0: Interval(0.7, 0.6, 0.8), 1.0: Interval(0.5, 0.4, 0.6)}
    marks = {"b": ("declared missing", 1.0, Interval(0.55, 0.5, 0.6))}
    figure = plot.plot_curves(dict.fromkeys("abc", curve), "cloud", "accuracy", ("majority", 0.3), marks=marks)
    assert [len(axis.containers) for axis in figure.axes] == [0, 1, 0]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"majority", "declared missing"}
    assert "star marks declared missing, 0.550" in figure.alt
    with pytest.raises(ValueError, match="mark one of these"):
        plot.plot_curves({"a": curve}, "cloud", "accuracy", marks=marks)


def test_curves_over_shares_have_a_logarithmic_axis_in_percent():
    interval = Interval(0.7, 0.6, 0.8)
    axis = plot.plot_curves({"S2": {0.05: interval, 1.0: interval}}, "labels", "accuracy", log=True).axes[0]
    assert axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["5 %", "100 %"]


def test_panels_show_each_curve_with_its_band_and_all_others_in_grey():
    interval = Interval(0.7, 0.6, 0.8)
    curves = {name: {0.05: interval, 1.0: interval} for name in ("SimCLR", "MAE", "VICReg", "Barlow Twins")}
    figure = plot.plot_curve_panels(curves, "labels", "accuracy", {"from scratch": {0.05: interval}})
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(curves)
    for axis in shown:
        assert len(axis.get_lines()) == len(curves) + 2  # all in grey, from scratch, and its own again
        assert [collection.get_hatch() for collection in axis.collections] == ["///", None]  # from scratch, and its own
    assert figure.legends[0].get_texts()[0].get_text() == "from scratch"
    with pytest.raises(ValueError, match="against 5"):
        plot.plot_curve_panels(curves, "labels", "accuracy", {name: {0.05: interval} for name in "abcde"})


def test_figures_of_a_study_without_a_table_are_none():
    assert plot.plot_intervals({}, "accuracy") is None
    assert plot.plot_curves({"S2": {}}, "cloud", "accuracy") is None
    assert plot.plot_curve_panels({}, "labels", "accuracy", {}) is None
    assert plot.plot_bars({"S2": {}, "S1": {}}, "accuracy") is None
    assert plot.plot_cosines({}) is None


def test_monitor_draws_a_panel_a_column_and_says_what_is_missing():
    figure = plot.plot_monitor(histories(), {"train/loss": "loss", "val/zone/accuracy": "accuracy"})
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert figure.axes[0].get_ylim()[0] == 0 and figure.axes[0].get_ylim()[1] > 1.06  # no marker is cut
    with pytest.raises(ValueError, match=r"'Sentinel-2' has no columns \['rank'\]"):
        plot.plot_monitor(histories(), {"rank": "rank"})


def test_a_patch_without_light_is_shown_as_radar(sample):
    figure = plot.plot_patches([{"s1": sample["s1"]}, sample], ["radar_query", "light"], columns=4)
    radar, light = (axis.get_images()[0] for axis in figure.axes)
    np.testing.assert_array_equal(radar.get_array(), sample["s1"][0])
    assert light.get_array().shape[-1] == 3 and titles(figure) == ["radar query", "light"]


def test_regions_are_numbered_at_their_centres():
    centres = np.array([[10.0, 50.0], [12.0, 51.0]])
    axis = plot.plot_regions(centres + 0.1, np.array([1, 0]), centres).axes[0]
    assert {text.get_text(): tuple(text.xy) for text in axis.texts} == {"0": (10.0, 50.0), "1": (12.0, 51.0)}
    assert sum(len(points.get_offsets()) for points in axis.collections) == 2


def test_numbers_of_regions_that_are_close_stand_apart():
    centres = np.array([[10.0, 50.0], [10.1, 50.0], [10.0, 50.1], [30.0, 60.0]])
    figure = plot.plot_regions(centres, np.arange(4), centres)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the leader lines
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert sum(text.arrow_patch is not None for text in figure.axes[0].texts) == 2


def test_reconstructions_share_brightness_and_show_what_is_hidden():
    original = np.full((1, 12, 4, 4), 0.2)
    masked = original.copy()
    masked[:, :, :2] = np.nan
    figure = plot.plot_reconstructions({"given": original, "seen": masked})
    first, second = (axis.get_images()[0].get_array() for axis in figure.axes)
    np.testing.assert_allclose(first[2:], second[2:])
    np.testing.assert_allclose(second[:2], 0.5)
    assert [axis.get_ylabel() for axis in figure.axes] == ["given", "seen"]


def test_embedding_tells_the_frequent_names_apart():
    names = [str(place) for place in range(9)] + ["0", "1"]
    axis = plot.plot_embedding(np.zeros((11, 2)), {"place": names}).axes[0]
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert len(shown) == 7 and shown[:2] == ["0", "1"]
    assert sum(len(points.get_offsets()) for points in axis.collections) == 11


# ----------------------------------------------------------------------------------------------------------- real data


def test_real_patches_are_drawn(real_tree):
    data = BENGE(real_tree, modalities=("s2", "s1", "season", "lonlat"), targets=("corine",))
    for sample in data:
        written = "\n".join(texts(plot.plot_sample(sample, note="BigEarthNet")))
        assert "labels:" in written and "BigEarthNet" in written
    assert isinstance(plot.plot_patches(list(data), [name[-6:] for name in data.patch_ids]), Figure)


def maps(shape=(24, 24)):
    """Two patches of land cover, half class 0 and half class 1, and a corner without data."""
    truth = np.zeros(shape, dtype=np.int64)
    truth[:, shape[1] // 2 :] = 1
    truth[0, 0] = IGNORE_INDEX
    return [{"s2": np.full((12, *shape), 0.1), "land_cover": truth} for _ in range(2)]


def test_maps_stand_below_their_image_with_one_legend_and_agreement():
    samples = maps()
    guess = [np.zeros((24, 24), dtype=np.int64)] * 2
    figure = plot.plot_maps(samples, {"U-Net": guess}, ["first", "second"], note=NOTE)
    written = texts(figure)
    assert {"first", "second", "WorldCover", "U-Net", NOTE, "no data", LAND_COVER[0].label} <= set(written)
    assert LAND_COVER[5].label not in written
    known = 24 * 24 - 1
    assert written.count(f"{(12 * 24 - 1) / known:.0%} agree") == 2  # the pixel without data does not count
    assert len(figure.axes) == 6


def test_maps_refuse_names_that_are_not_the_bands():
    with pytest.raises(BandError, match="12 bands"):
        plot.plot_maps(maps(), s2_bands=("B02",))


def test_losses_have_a_panel_a_task_and_the_mean_of_the_seeds():
    runs = np.array([[1.0, 0.5], [2.0, 1.5]])
    figure = plot.plot_losses({"zone": {"alone": runs, "together": runs / 2}, "season": {"alone": runs}}, note=NOTE)
    assert titles(figure) == ["zone", "season"]
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[1.5, 1.0], [0.75, 0.5]]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2]
    assert len(figure.axes[0].collections) == 2
    assert NOTE in texts(figure)


def test_cosines_have_a_panel_a_pair_and_a_line_at_zero():
    values = np.array([[0.5, -0.5, 0.0], [0.1, -0.1, 0.2]])
    figure = plot.plot_cosines({"a ~ b": (np.array([0, 5, 10]), values), "a ~ c": (np.array([0]), values[:, :1])})
    assert titles(figure) == ["a ~ b", "a ~ c"]
    mean, zero = figure.axes[0].lines
    assert mean.get_ydata() == pytest.approx([0.3, -0.3, 0.1])
    assert zero.get_ydata() == [0, 0]
    assert figure.axes[0].get_ylim() == (-1, 1)
