import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from bengelib.data.description import Source
from bengelib.data.statistics import Statistics, as_modality, check_unit, measure
from bengelib.errors import DataWarning, DescriptionError

RNG = np.random.default_rng(3)


def source(bands: tuple[str, ...], unit: str, **facts) -> Source:
    facts = {"kind": "image", "where": "dataset.toml: [modalities.x]", **facts}
    return Source("x", bands=bands, unit=(unit,) * len(bands), **facts)


def of_images(images: np.ndarray) -> Statistics:
    """Statistics of images (N, bands, H, W), in batches of three."""
    return measure([images[start : start + 3] for start in range(0, len(images), 3)], images.shape[1])


def test_one_pass_gives_what_numpy_gives_of_everything():
    images = RNG.normal(50, 3, (10, 2, 5, 4)).astype(np.float32)
    images[2, 0, :2] = np.nan
    images[4, 1, 0, 0] = np.inf
    found = of_images(images)
    for band in range(2):
        values = images[:, band][np.isfinite(images[:, band])].astype(np.float64)
        assert found.count[band] == len(values)
        assert found.mean[band] == pytest.approx(values.mean(), rel=1e-12)
        assert found.std[band] == pytest.approx(values.std(), rel=1e-10)
        assert (found.low[band], found.high[band]) == (values.min(), values.max())
    assert found.samples == 10


def test_a_small_spread_about_a_large_mean_does_not_cancel():
    images = 1e9 + RNG.integers(0, 2, (200, 1, 8, 8)).astype(np.float64)
    assert of_images(images).std[0] == pytest.approx(images.std(), rel=1e-8)


def test_columns_and_no_batch_at_all():
    found = measure([np.array([[1.0, np.nan], [3.0, np.nan]], np.float32)], 2)
    assert (found.count, found.mean[0], found.std[0]) == ((2, 0), 2.0, 1.0)
    assert measure([], 3).count == (0, 0, 0)


def test_what_was_written_is_read_and_nothing_else():
    found = of_images(RNG.normal(size=(4, 2, 3, 3)))
    plain = json.loads(json.dumps(found.as_json()))
    assert Statistics.from_json(plain, 2) == found
    for broken in ({}, [], None, {**plain, "mean": 5}, {**plain, "mean": ["x", "y"]}, {**plain, "more": [1]}):
        with pytest.raises(ValueError, match=r"no statistics|could not convert"):
            Statistics.from_json(broken, 2)
    with pytest.raises(ValueError, match=r"of 3 bands"):
        Statistics.from_json(plain, 3)


def test_a_modality_has_the_statistics_of_its_bands():
    images = RNG.normal(0, 1, (4, 3, 8, 8))
    made = as_modality(source(("a", "b", "c"), "m", wavelengths=(1.0, 2.0, 3.0)), of_images(images), ("c", "a"), (8, 8))
    assert (made.bands, made.unit, made.size, made.wavelengths) == (("c", "a"), ("m", "m"), 8, (3.0, 1.0))
    assert made.mean[1] == pytest.approx(images[:, 0].mean())


@pytest.mark.parametrize("value", [7.0, 0.1, 1 / 3, 1e20])
def test_a_band_that_never_varies_is_refused_unless_it_is_not_used(value):
    images = RNG.normal(0, 1, (30, 2, 8, 8))
    images[:, 1] = value  # 0.1 and 1/3: the mean of equal numbers need not equal them
    found = of_images(images)
    with pytest.raises(DescriptionError, match=r"dataset.toml: \[modalities.x\] band b is .* never varies .*leave the"):
        as_modality(source(("a", "b"), "m"), found, ("a", "b"))
    assert as_modality(source(("a", "b"), "m"), found, ("a",)).bands == ("a",)


def test_a_band_without_data_is_refused():
    images = RNG.normal(0, 1, (4, 2, 8, 8))
    images[:, 1] = np.nan
    with pytest.raises(DescriptionError, match=r"band b has no data in any sample; correct no_data"):
        as_modality(source(("a", "b"), "m"), of_images(images), ("a", "b"))


def scenes(count: int = 10, low: float = 0.01, high: float = 0.5, bands: int = 4) -> np.ndarray:
    """Reflectance of samples, each with something dark and something bright in each band."""
    images = RNG.uniform(low, high, (count, bands, 8, 8))
    images[:, :, 0, 0], images[:, :, 0, 1] = low, high
    return images


S2 = ("B02", "B03", "B04", "B08")


@pytest.mark.parametrize(
    ("values", "made", "words"),
    [
        (scenes() * 10_000, source(S2, "reflectance"), r"every band reaches 5000; state scale = 0.0001"),
        (scenes() + 0.1, source(S2, "reflectance"), r"100% of the samples .* below 0.09 .*offset = -0.1"),
        (scenes() * 10_000 + 1000, source(S2, ""), r"100% of the samples .* below 900 .*offset = -1000"),
        (10 ** (scenes() - 1), source(("VV", "VH", "a", "b"), "dB"), r"unit = 'dB', but 100% .*'linear power'"),
        (scenes(bands=2), source(("VV", "VH"), ""), r"names no unit of \['VV', 'VH'\].*unit = 'linear power'"),
    ],
)
def test_values_that_contradict_their_unit_are_refused(values, made, words):
    with pytest.raises(DescriptionError, match=r"dataset.toml: \[modalities.x\] .*" + words):
        check_unit(made, of_images(values))


def test_an_offset_or_linear_power_in_some_samples_is_found():
    optical, radar = scenes(), -20 + 10 * scenes(bands=2)
    optical[:3] += 0.1
    radar[:3] = 10 ** (radar[:3] / 10)
    with pytest.raises(DescriptionError, match=r"30% of the samples .*if only some do"):
        check_unit(source(S2, "reflectance"), of_images(optical))
    with pytest.raises(DescriptionError, match=r"30% of the samples have no negative value"):
        check_unit(source(("VV", "VH"), "dB"), of_images(radar))


def test_zeros_are_taken_for_no_data_when_an_offset_is_looked_for():
    values = scenes() + 0.1
    values[:, :, 3] = 0
    with pytest.raises(DescriptionError, match=r"offset of 1000"):
        check_unit(source(S2, "reflectance"), of_images(values))


@pytest.mark.parametrize(
    ("values", "made"),
    [
        (scenes(), source(S2, "reflectance")),
        (scenes() + 0.1, source(S2, "reflectance", offset=(0.0,) * 4)),  # "the ground is as bright as that"
        (scenes(), source(S2, "reflectance", offset=(-0.1,) * 4)),
        (scenes() * 10_000 + 1000, source(S2, "digital number")),
        (scenes() * 10_000 + 1000, source(("red", "green", "blue", "nir"), "")),
        (scenes() + 0.1, source(S2, "")),
        (-20 + 10 * scenes(bands=2), source(("VV", "VH"), "dB")),
        (-20 + 10 * scenes(bands=2), source(("VV", "VH"), "")),
        (scenes(bands=2), source(("VV", "VH"), "linear power")),
        (scenes(bands=1) + 9, source(("snr",), "dB", kind="scalar")),
        (np.concatenate([scenes(19), scenes(1) + 0.1]), source(S2, "reflectance")),  # one bright sample is no rule
    ],
)
def test_values_that_can_be_pass(values, made):
    check_unit(made, of_images(values))


def test_one_sample_of_few_is_no_rule():
    found = of_images(np.concatenate([scenes(2), scenes(1) + 0.1]))
    assert found.share_above(0.09) == 0 and replace(found, samples=30).share_above(0.09) == pytest.approx(
        1 / 3, abs=0.01
    )


@pytest.mark.parametrize(
    ("unit", "fill", "facts", "found"),
    [
        ("reflectance", -9999.0, {"scale": (1e-4,)}, "band a goes down to -0.9999 reflectance"),
        ("reflectance", -0.1, {}, ""),
        ("dB", -9999.0, {}, "band a goes down to -9999 dB"),
        ("K", -9999.0, {}, "state no_data = -9999"),
        ("K", -9999.0, {"scale": (0.1,), "offset": (273.15,)}, "state no_data = -9999"),
        ("K", -32768.0, {"kind": "vector"}, "state no_data = -32768"),
        ("K", -9.0, {}, ""),
    ],
)
def test_fill_values_that_are_taken_for_measurements(unit, fill, facts, found):
    made = source(("a",), unit, **facts)
    values = -RNG.uniform(1, 20, (8, 1, 4, 4)) if unit == "dB" else RNG.uniform(0.01, 0.3, (8, 1, 4, 4))
    values[0, 0, 0, 0] = fill * facts.get("scale", (1.0,))[0] + facts.get("offset", (0.0,))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not found:
            check_unit(made, of_images(values))
            return
        with pytest.raises((DescriptionError, DataWarning), match=found):
            check_unit(made, of_images(values))
