"""The simulated set has the statistics and the difficulty of the real one (slow; the table is in docs/simulator.md)."""

from pathlib import Path

import pytest

from bengelib.sim.simulate import simulate
from tests import calibration
from tests.calibration import Row, Tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A thousand patches as ben-ge has them."""
    return Tree(simulate(tmp_path_factory.mktemp("natural") / "ben-ge-sim", 1000, 0, "natural", progress=False))


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A thousand patches as ben-ge-8k has them."""
    return Tree(simulate(tmp_path_factory.mktemp("balanced") / "ben-ge-sim", 1000, 0, "balanced", progress=False))


def check(rows: list[Row]) -> None:
    """Fail with the whole table, so that one run shows every miss."""
    calibration.report(rows)
    missed = [f"{row.name}: {row.value:.4f}, wanted {row.low:.4f} to {row.high:.4f}" for row in rows if not row.passed]
    assert not missed, "\n".join(missed)


def test_tables(natural: Tree) -> None:
    check(calibration.measure_tables(natural))


def test_land_cover(natural: Tree) -> None:
    check(calibration.measure_land_cover(natural))


def test_band_statistics(natural: Tree) -> None:
    check(calibration.measure_pixels(natural))


def test_texture(natural: Tree) -> None:
    check(calibration.measure_texture(natural))


def test_land_cover_per_pixel_is_learnable_but_not_easy(balanced: Tree) -> None:
    from tests.calibration_models import measure_logistic_regression

    check(measure_logistic_regression(balanced))


def test_climate_zone_is_learnable_and_leaks(natural: Tree) -> None:
    from tests.calibration_models import measure_climate_zone

    check(measure_climate_zone(natural))


def test_what_is_learned_holds_on_a_real_lake(natural: Tree, real_tree: Path) -> None:
    from tests.calibration_models import measure_sim_to_real

    check(measure_sim_to_real(natural, real_tree))
