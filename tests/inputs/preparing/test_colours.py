"""HDR to SDR: the arithmetic, against values that can be worked out by hand."""

import pytest

from wan_mcp.inputs.preparing.colours import HLG, PQ, cube, sdr_of

PQ_WHITE, HLG_WHITE = 0.5807, 0.75
"""The signals of 203 cd/m2, the white of SDR within HDR (ITU-R BT.2408, documented)."""
PQ_PEAK = 0.7518
"""The signal of 1,000 cd/m2 (documented)."""


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_grey_stays_grey_and_grows(transfer: int) -> None:
    """From black to white, without a step back (ours)."""
    greys = [sdr_of((n / 50,) * 3, transfer) for n in range(51)]
    lights = [red for red, _, _ in greys]

    assert all(max(grey) - min(grey) < 0.002 for grey in greys)
    assert lights == sorted(lights)
    assert lights[0] == 0.0
    assert lights[-1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("transfer", "white"), [(PQ, PQ_WHITE), (HLG, HLG_WHITE)])
def test_white_of_both_systems_comes_out_alike_and_bright(transfer: int, white: float) -> None:
    """BT.2390 maps 203 cd/m2 to 160 of 203, which is a signal of 0.9 (worked out by hand)."""
    assert sdr_of((white,) * 3, transfer) == pytest.approx((0.905,) * 3, abs=0.01)


def test_what_is_dark_is_as_bright_as_before() -> None:
    """Light of 20 cd/m2, a signal of 0.3570 in PQ, is 20/203 of white (worked out by hand)."""
    assert sdr_of((0.3570,) * 3, PQ) == pytest.approx(((20 / 203) ** (1 / 2.4),) * 3, abs=0.005)


def test_the_peak_of_pq_is_white() -> None:
    """And whatever is above (ours)."""
    assert sdr_of((PQ_PEAK,) * 3, PQ) == pytest.approx((1.0,) * 3, abs=0.002)
    assert sdr_of((1.0,) * 3, PQ) == pytest.approx((1.0,) * 3, abs=0.002)


def test_a_colour_of_bt_709_keeps_its_hue() -> None:
    """Pure red of BT.709 lies inside BT.2020 (ITU-R BT.2087), and comes out as pure red."""
    light = (0.6274, 0.0691, 0.0164)
    signal = tuple(_pq(20 * each) for each in light)
    red, green, blue = sdr_of((signal[0], signal[1], signal[2]), PQ)

    assert red == pytest.approx((20 / 203) ** (1 / 2.4), abs=0.01)
    assert max(green, blue) < 0.06


def _pq(light: float) -> float:
    """The signal of PQ (ITU-R BT.2100), written once more on its own."""
    power = (light / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def test_the_table_has_red_fastest() -> None:
    """As the format says (documented)."""
    first, *lines = cube(HLG, 3).splitlines()

    assert first == "LUT_3D_SIZE 3"
    assert len(lines) == 27
    assert lines[1] == "{:.5f} {:.5f} {:.5f}".format(*sdr_of((0.5, 0, 0), HLG))
    assert lines[9] == "{:.5f} {:.5f} {:.5f}".format(*sdr_of((0, 0, 0.5), HLG))
