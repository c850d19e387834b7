"""HDR to SDR: computes a table of colours for FFmpeg's filter `lut3d`.

The FFmpeg that comes with PyAV has no zscale, so the arithmetic is ours. A colour of an HDR clip is
a signal of BT.2100 in the primaries of BT.2020. For each colour of the table:

1. The signal becomes light in cd/m2: for PQ by its EOTF; for HLG by its inverse OETF and its OOTF,
   with the system gamma of 1.2 for a screen of 1,000 cd/m2 (ITU-R BT.2100).
2. The brightest of red, green and blue is tone-mapped by the EETF of ITU-R BT.2390, in PQ, from
   1,000 to 203 cd/m2, which is the white of SDR within HDR (ITU-R BT.2408). All three are scaled
   alike, so that the hue stays. Below 88 cd/m2 nothing changes.
3. The primaries of BT.2020 become those of BT.709 by the matrix of ITU-R BT.2087; what lies outside
   is clipped.
4. Light becomes the signal of SDR by the inverse of BT.1886, a gamma of 2.4.

A PQ clip may declare that it is brighter than 1,000 cd/m2. Phones record no brighter ones, and what
is above is clipped (ours).
"""

import math
from collections.abc import Callable, Iterator
from itertools import product

PQ, HLG = 16, 18
"""Transfer characteristics of ISO/IEC 23091-2 (documented)."""
TABLE_SIDE = 33
"""Colours along each side of the table, as studios use (ours)."""

_PEAK, _WHITE = 1_000.0, 203.0
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_HLG_GAMMA = 1.2
_LUMINANCE_2020 = (0.2627, 0.6780, 0.0593)
_BT_2020_TO_709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)
_SDR_GAMMA = 2.4

Colour = tuple[float, float, float]


def sdr_of(signal: Colour, transfer: int) -> Colour:
    """The SDR signal, BT.709 from 0 to 1, of an HDR signal of BT.2020 from 0 to 1."""
    red, green, blue = map(_curve(transfer), signal)
    return _sdr((red, green, blue), transfer)


def cube(transfer: int, side: int = TABLE_SIDE) -> str:
    """The table as a .cube file: the first number of a colour changes fastest (documented)."""
    steps = [_curve(transfer)(step / (side - 1)) for step in range(side)]
    return "\n".join((f"LUT_3D_SIZE {side}", *_lines(steps, transfer), ""))


def _lines(steps: list[float], transfer: int) -> Iterator[str]:
    for blue, green, red in product(steps, repeat=3):
        yield "{:.5f} {:.5f} {:.5f}".format(*_sdr((red, green, blue), transfer))


def _curve(transfer: int) -> Callable[[float], float]:
    return _pq_light if transfer == PQ else _hlg_scene_light


def _sdr(light: Colour, transfer: int) -> Colour:
    if transfer == HLG:
        luminance = sum(map(math.prod, zip(_LUMINANCE_2020, light, strict=True)))
        gain = _PEAK * luminance ** (_HLG_GAMMA - 1) if luminance > 0 else 0.0
        light = (light[0] * gain, light[1] * gain, light[2] * gain)
    brightest = max(light)
    scale = _tone_mapped(brightest) / brightest / _WHITE if brightest > 0 else 0.0
    red, green, blue = (
        min(max(sum(map(math.prod, zip(row, light, strict=True))) * scale, 0.0), 1.0)
        ** (1 / _SDR_GAMMA)
        for row in _BT_2020_TO_709
    )
    return red, green, blue


def _pq_light(signal: float) -> float:
    """The light in cd/m2 of a PQ signal."""
    power = signal ** (1 / _M2)
    return float(10_000 * (max(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_signal(light: float) -> float:
    power = (light / 10_000) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_scene_light(signal: float) -> float:
    """The light of the scene, from 0 to 1, of an HLG signal."""
    if signal <= 0.5:
        return signal * signal / 3
    return (math.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12


def _tone_mapped(light: float) -> float:
    """The EETF of BT.2390 without its lift of black: light in cd/m2, at most that of white."""
    peak = _pq_signal(_PEAK)
    white = _pq_signal(_WHITE) / peak
    knee = 1.5 * white - 0.5
    signal = min(_pq_signal(light) / peak, 1.0)
    if signal <= knee:
        return light
    t = (signal - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * white
    )
    return _pq_light(spline * peak)
