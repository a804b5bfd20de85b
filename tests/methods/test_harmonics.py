import math

import numpy as np
import pytest
import scipy.special
import torch

from bengelib.errors import ArgumentError
from bengelib.methods.harmonics import MOST_DEGREES, check_lonlat, harmonics, legendre


def places(count=50, seed=0):
    random = np.random.default_rng(seed)
    lat = np.rad2deg(np.arcsin(random.uniform(-1, 1, count)))
    return torch.from_numpy(np.stack([random.uniform(-180, 180, count), lat], axis=1))


def squares_by_degree(features, degrees):
    return torch.stack([features[:, n**2 : (n + 1) ** 2].square().sum(dim=1) for n in range(degrees)], dim=1)


def test_low_degrees_in_closed_form():
    lonlat = places()
    theta, phi = math.pi / 2 - torch.deg2rad(lonlat[:, 1]), torch.deg2rad(lonlat[:, 0])
    y = harmonics(lonlat, 3)
    expected = [
        torch.full_like(theta, 0.28209479),
        0.48860251 * theta.sin() * phi.sin(),
        0.48860251 * theta.cos(),
        0.48860251 * theta.sin() * phi.cos(),
        0.54627422 * theta.sin() ** 2 * (2 * phi).sin(),
        1.09254843 * theta.sin() * theta.cos() * phi.sin(),
        0.94617470 * theta.cos() ** 2 - 0.31539157,
        1.09254843 * theta.sin() * theta.cos() * phi.cos(),
        0.54627422 * theta.sin() ** 2 * (2 * phi).cos(),
    ]
    torch.testing.assert_close(y, torch.stack(expected, dim=1), rtol=0, atol=1e-8)


@pytest.mark.parametrize("degrees", [10, 40, 101])
def test_squares_add_up_everywhere(degrees):
    special = torch.tensor([[0.0, 90.0], [30.0, -90.0], [180.0, 0.0], [-180.0, 45.0], [10.0, 89.999]])
    y = harmonics(torch.cat([places(), special]), degrees)
    assert y.shape == (55, degrees**2) and y.dtype == torch.float64
    expected = (2 * torch.arange(degrees, dtype=torch.float64) + 1) / (4 * math.pi)
    torch.testing.assert_close(squares_by_degree(y, degrees), expected.expand(55, -1), rtol=1e-11, atol=0)
    assert float(y[0].square().sum()) == pytest.approx({10: 7.9577, 40: 127.324, 101: 811.77}[degrees], rel=1e-4)


def test_they_are_orthonormal():
    """Exactly so under a quadrature of Gauss and Legendre in latitude and even steps in longitude."""
    degrees = 12
    nodes, weights = np.polynomial.legendre.leggauss(degrees)
    steps = 2 * degrees - 1
    lon, lat = np.meshgrid(360 * np.arange(steps) / steps, np.rad2deg(np.arcsin(nodes)))
    y = harmonics(torch.from_numpy(np.stack([lon.ravel(), lat.ravel()], axis=1)), degrees)
    weight = torch.from_numpy(np.repeat(weights, steps) * 2 * math.pi / steps)
    products = y.T @ (weight[:, None] * y)
    torch.testing.assert_close(products, torch.eye(degrees**2, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.skipif(not hasattr(scipy.special, "sph_harm_y"), reason="SciPy has sph_harm_y from 1.15 on")
@pytest.mark.parametrize(("degree", "orders"), [(3, range(-3, 4)), (40, (0, 1, -7, 39, -40)), (100, (0, -1, 60, 100))])
def test_same_numbers_as_scipy(degree, orders):
    lonlat = places()
    theta, phi = (np.deg2rad(values.numpy()) for values in (90 - lonlat[:, 1], lonlat[:, 0]))
    y = harmonics(lonlat, degree + 1)
    for m in orders:
        phase = (-1) ** m  # SciPy has that of Condon and Shortley
        value = scipy.special.sph_harm_y(degree, abs(m), theta, phi)
        if m:
            value = math.sqrt(2) * phase * (value.real if m > 0 else value.imag)
        np.testing.assert_allclose(y[:, degree**2 + degree + m], np.real(value), rtol=0, atol=1e-11)


def test_poles_and_date_line_are_places_like_any_other():
    degrees = 41
    poles = harmonics(torch.tensor([[0.0, 90.0], [77.0, 90.0], [0.0, -90.0], [-120.0, -90.0]]), degrees)
    torch.testing.assert_close(poles[0], poles[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(poles[2], poles[3], rtol=0, atol=1e-12)
    zonal = [n**2 + n for n in range(degrees)]
    others = [column for column in range(degrees**2) if column not in zonal]
    assert poles[:, others].abs().max() < 1e-12
    expected = torch.tensor([math.sqrt((2 * n + 1) / (4 * math.pi)) for n in range(degrees)], dtype=torch.float64)
    torch.testing.assert_close(poles[0, zonal], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(poles[2, zonal], expected * (-1.0) ** torch.arange(degrees), rtol=1e-12, atol=0)
    line = harmonics(torch.tensor([[180.0, 51.0], [-180.0, 51.0]]), degrees)
    torch.testing.assert_close(line[0], line[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        harmonics(torch.tensor([[200.0, 51.0]]), 9), harmonics(torch.tensor([[-160.0, 51.0]]), 9)
    )


def test_the_opposite_point_changes_the_sign_of_odd_degrees():
    lonlat = places()
    opposite = torch.stack([(lonlat[:, 0] + 360) % 360 - 180, -lonlat[:, 1]], dim=1)
    signs = torch.cat([torch.full((2 * n + 1,), (-1.0) ** n, dtype=torch.float64) for n in range(10)])
    torch.testing.assert_close(harmonics(opposite, 10), signs * harmonics(lonlat, 10), rtol=0, atol=1e-12)


def test_order_zero_has_no_factor_of_pi():
    """SatCLIP has: 0.88622693 in degree 0, and 2.97249547 cos^2 theta - 0.99083182 in degree 2."""
    pole = harmonics(torch.tensor([[0.0, 90.0]]), 3)[0]
    assert float(math.pi * pole[0]) == pytest.approx(0.88622693, abs=1e-8)
    assert float(math.pi * pole[6]) == pytest.approx(2.97249547 - 0.99083182, abs=1e-8)


def test_the_highest_degrees_are_right():
    lat = torch.deg2rad(torch.tensor([0.0, 30.0, 60.0, 70.0, 89.9, 90.0], dtype=torch.float64))
    *_, row = legendre(lat.sin(), lat.cos(), MOST_DEGREES)
    total = row[:, 0] ** 2 + 2 * row[:, 1:].square().sum(dim=1)
    expected = torch.full_like(total, (2 * MOST_DEGREES - 1) / (4 * math.pi))
    torch.testing.assert_close(total, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("degrees", [0, MOST_DEGREES + 1, 2.5, True])
def test_degrees_that_cannot_be_are_refused(degrees):
    with pytest.raises(ArgumentError, match=f"degrees=.*from 1 to {MOST_DEGREES}"):
        harmonics(torch.zeros(1, 2), degrees)


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ([10.0, 90.5], "longitude comes first"),
        ([48.0, 151.2], "sample 1.*151.2.*in its place"),
        ([361.0, 0.0], "-180 to 360"),
        ([-200.0, 100.0], "-90 to 90"),
        ([math.nan, 0.0], "nan"),
        ([0.0, math.inf], "inf"),
    ],
)
def test_what_is_no_place_is_refused(place, hint):
    with pytest.raises(ArgumentError, match=f"(?i){hint}"):
        harmonics(torch.tensor([[0.0, 0.0], place]), 3)


def test_other_shapes_are_refused():
    for shape in ((3,), (3, 3), (2, 1)):
        with pytest.raises(ArgumentError, match=r"\(N, 2\)"):
            check_lonlat(torch.zeros(shape))


def test_where_looking_would_wait_an_impossible_place_is_nan(monkeypatch):
    monkeypatch.setattr("bengelib.methods.harmonics.check_lonlat", lambda lonlat: None)
    y = harmonics(torch.tensor([[0.0, 0.0], [0.0, 91.0]]), 3)
    assert y[0].isfinite().all() and y[1].isnan().all()
