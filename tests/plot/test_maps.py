import numpy as np
import pytest
from matplotlib.figure import Figure

from bengelib.errors import RasterError
from bengelib.plot import plot_scene_map
from bengelib.recipes.mapping import Tiling, predict_map
from tests.scenes import Pixels, reflectances, write_scene


def test_a_picture_has_the_map_and_the_classes_that_occur(tmp_path):
    pixels = reflectances(90, 130)
    pixels[:, :45, :65] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels)
    predict_map(Pixels(), scene, tmp_path / "map.tif", progress=False, precision="no")
    figure = plot_scene_map(tmp_path / "map.tif", pixels=60, note="simulated")
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    (image,) = axes.get_images()
    assert image.get_array().shape == (30, 44, 4)  # every third pixel
    assert (np.asarray(image.get_array())[:15, :21, 3] == 0).all()  # no data is transparent
    assert image.get_extent() == [0, 1.3, 0, 0.9] and axes.get_xlabel() == "km to the east"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    shares = [float(label.rpartition(" ")[2].rstrip("%")) for label in labels]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.3)
    assert figure.get_supxlabel() == "simulated" and axes.get_title() == "cover"


def test_a_map_in_degrees(tmp_path):
    scene = write_scene(
        tmp_path / "scene.tif", reflectances(40, 40), crs="EPSG:4326", transform=(0.001, 0, 10, 0, -0.001, 50)
    )
    predict_map(Pixels(dense=False), scene, tmp_path / "map.tif", tiling=Tiling(20), progress=False, precision="no")
    figure = plot_scene_map(tmp_path / "map.tif")
    assert figure.axes[0].get_xlabel() == "degrees to the east"


def test_what_is_no_map_is_refused(tmp_path):
    with pytest.raises(RasterError, match=r"none\.tif is not a class map"):
        plot_scene_map(tmp_path / "none.tif")
    with pytest.raises(RasterError, match=r"scene\.tif is not a class map"):
        plot_scene_map(write_scene(tmp_path / "scene.tif", reflectances(9, 9)))
