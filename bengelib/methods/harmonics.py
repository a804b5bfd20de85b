"""Spherical harmonics: features of locations on the Earth without singularities at the poles or the date line.

Real and orthonormal, without the Condon-Shortley phase. Of degree l and order m, from -l to l::

    Y_lm = P_l|m|(cos theta) * (sqrt(2) sin(|m| phi), 1, sqrt(2) cos(m phi))   for m < 0, m = 0, m > 0,

where theta is the angle from the north pole, phi the longitude, and P the associated Legendre functions, scaled so that
the integral of Y^2 over the sphere is 1. The authors of the location encoder (Russwurm et al. 2024, arXiv:2310.06743)
measure from the opposite point, which changes the sign of odd degrees. SatCLIP (Klemmer et al. 2025, arXiv:2311.17179)
and its weights have the order m = 0 too large by a factor of pi, from a constant in that code: Y_00 is 0.886 there and
0.282 here. SatCLIP also shifts its coordinates, so that odd degrees change their sign. To use those weights, multiply
the features of order 0 by pi and those of odd degrees by -1.

Needs torch, `bengelib.arguments` and `bengelib.errors` only.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bengelib.arguments import whole_number
from bengelib.errors import ArgumentError

MOST_DEGREES = 1800
"""Largest L: beyond degree 1900, required powers of sin theta are below the smallest 64-bit number."""


def harmonics(lonlat: Tensor, degrees: int) -> Tensor:
    """All harmonics of the `degrees` degrees from 0, (N, degrees^2) float64, with l and m in column l^2 + l + m.

    The recurrence uses normalised functions, so it needs no factorials, which exceed 32 bits from degree 30 on.

    Sanity values: the squares of degree l add up to (2 l + 1) / (4 pi) at every place, those of all degrees to
    degrees^2 / (4 pi); at a pole only the orders m = 0 are not 0.

    Args:
        lonlat: longitude and latitude in degrees, (N, 2).
        degrees: number of degrees; the shortest wavelength is about 360 / degrees degrees.

    Raises:
        ArgumentError: `degrees` is not from 1 to `MOST_DEGREES`; for locations see `check_lonlat`. On other devices
            than the CPU, features of an invalid location are NaN instead, because a check would wait for the device.
    """
    whole_number("degrees", degrees, 1, MOST_DEGREES)
    check_lonlat(lonlat)
    no_doubles = lonlat.device.type == "mps"
    exact = lonlat.detach().to("cpu" if no_doubles else lonlat.device).double()
    lon, lat = torch.deg2rad(exact).unbind(dim=1)
    angles = lon[:, None] * torch.arange(1, degrees, dtype=torch.float64, device=lon.device)  # (N, L - 1), m phi
    waves = math.sqrt(2) * torch.stack([angles.sin(), angles.cos()])  # (2, N, L - 1)
    columns = []
    for degree, row in enumerate(legendre(lat.sin(), lat.cos(), degrees)):  # (N, l + 1)
        sines, cosines = row[:, 1:] * waves[:, :, :degree]  # (N, l) each
        columns += [sines.flip(1), row[:, :1], cosines]
    found = torch.cat(columns, dim=1).masked_fill(~_possible(exact)[:, None], math.nan)
    return found.float().to(lonlat.device) if no_doubles else found


def legendre(x: Tensor, s: Tensor, degrees: int) -> Iterator[Tensor]:
    """The normalised associated Legendre functions, degree by degree, (N, l + 1) for the orders 0 to l.

    The standard forward recurrence (Holmes and Featherstone 2002, doi:10.1007/s00190-002-0216-2, equations 11 to 13),
    with the factor 1 / (4 pi) but without the factor 2, which is in the sines and cosines.

    Args:
        x: cos theta, (N,) float64.
        s: sin theta, (N,) float64, 0 or more.
        degrees: number of degrees.
    """
    x, s = x[:, None], s[:, None]
    before = row = torch.full_like(x, 1 / math.sqrt(4 * math.pi))
    yield row
    for degree in range(1, degrees):
        m = torch.arange(degree - 1, dtype=torch.float64, device=x.device)
        rise = ((4 * degree**2 - 1) / (degree**2 - m**2)).sqrt()
        fall = (((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1)).sqrt()
        inner = rise * (x * row[:, :-1] - fall * before[:, : degree - 1])  # orders 0 to l - 2
        diagonal = row[:, -1:]
        last = [math.sqrt(2 * degree + 1) * x * diagonal, math.sqrt(1 + 1 / (2 * degree)) * s * diagonal]
        before, row = row, torch.cat([inner, *last], dim=1)
        yield row


def check_lonlat(lonlat: Tensor) -> None:
    """Check locations; on other devices than the CPU, only their shape.

    Raises:
        ArgumentError: the shape is not (N, 2), numbers are not finite, or a latitude is beyond 90 degrees or a
            longitude not from -180 to 360.
    """
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise ArgumentError(f"lonlat has shape {tuple(lonlat.shape)}; expected longitude and latitude, (N, 2) degrees")
    if lonlat.device.type != "cpu" or (possible := _possible(lonlat)).all():
        return
    row = int((~possible).nonzero()[0])
    lon, lat = lonlat[row].tolist()
    if abs(lat) > 90 and abs(lon) <= 90:
        hint = "a longitude in its place? Longitude comes first"
    else:
        hint = "expected a longitude from -180 to 360 and a latitude from -90 to 90"
    raise ArgumentError(f"sample {row} lies at longitude {lon:g} and latitude {lat:g} degrees: {hint}")


def _possible(lonlat: Tensor) -> Tensor:
    """Mask of the valid locations among (N, 2) degrees, (N,) bool; NaN is invalid."""
    lon, lat = lonlat.unbind(dim=1)
    return (lat.abs() <= 90) & (lon >= -180) & (lon <= 360)
