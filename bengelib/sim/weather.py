"""Simulated ERA-5 weather: a smooth climatology plus the anomaly of the day, on the 0.25 degree grid of ERA-5."""

from datetime import datetime

import numpy as np

from bengelib.sim.procedural import key_of, smooth

PRESSURE_LEVELS = (1000, 975, 950, 925, 900, 875, 850, 825, 800, 775, 750, 700)
"""ERA-5 pressure levels in hPa; ben-ge uses the one nearest to the mean height of the patch."""


def pressure_level(height: float) -> int:
    """ERA-5 level in hPa nearest to a height in metres, by the standard atmosphere."""
    pressure = 1013.25 * (1 - 2.25577e-5 * max(height, 0.0)) ** 5.25588
    return min(PRESSURE_LEVELS, key=lambda level: abs(level - pressure))


def weather(seed: int, time: datetime, lon: float, lat: float, zone: int, height: float) -> dict[str, float]:
    """Weather at a location and time.

    Args:
        seed: of the simulation.
        time: UTC.
        lon: degrees.
        lat: degrees.
        zone: Koeppen-Geiger code; open water (0) is mild and windy.
        height: metres above sea level.

    Returns:
        `temperature` in K, `wind-u` and `wind-v` in m/s, `relhumidity` in %.
    """
    cell_lon, cell_lat = round(lon * 4) / 4, round(lat * 4) / 4
    day = time.timetuple().tm_yday
    key = key_of(seed, 80, time.toordinal(), time.hour // 3)
    x, y = np.array([cell_lon]), np.array([cell_lat])

    def anomaly(purpose: int, size: float) -> float:
        return float(smooth(key_of(key, purpose), x, y, size)[0, 0])

    continental = np.clip((cell_lon + 10) / 35, 0, 1)
    mean = 288.5 - 0.66 * (cell_lat - 38) + (1.0 if zone in (8, 9, 7) else 0)
    swing = 6.0 + 7.5 * continental + 0.08 * (cell_lat - 45)
    annual = -swing * np.cos(2 * np.pi * (day - 22) / 365)
    local = time.hour + time.minute / 60 + cell_lon / 15
    daily = (2.0 + 2.6 * max(0.0, np.sin(np.pi * (day - 60) / 260))) * np.cos(2 * np.pi * (local - 15) / 24)
    if zone == 0:
        annual, daily = 0.75 * annual, 0.3 * daily
    level = pressure_level(height)
    level_height = (1 - (level / 1013.25) ** (1 / 5.25588)) / 2.25577e-5
    temperature = mean + annual + daily - 0.0062 * max(level_height, 0) + 3.2 * anomaly(1, 9.0)
    breeze = 1.35 if zone == 0 else 1.0
    u = breeze * (1.3 + 3.3 * anomaly(2, 7.0))
    v = breeze * (0.6 + 3.0 * anomaly(3, 7.0))
    dry = 14.0 if zone in (7, 8, 9) and 150 < day < 280 else 0.0
    humidity = 74 - 2.6 * daily - dry - 8 * np.sin(np.pi * day / 365) + 11 * anomaly(4, 6.0)
    return {
        "temperature": round(float(np.clip(temperature, 255.0, 309.0)), 3),
        "wind-u": round(float(u), 3),
        "wind-v": round(float(v), 3),
        "relhumidity": round(float(np.clip(humidity, 12.0, 100.0)), 3),
    }
