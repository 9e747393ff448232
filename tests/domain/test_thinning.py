"""A thinned curve is drawn as the whole one is."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.exports.configuration import thinned


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300), st.integers(4, 80))
def test_ends_and_extremes_stay_and_no_more_than_the_most(values: list[float], most: int) -> None:
    places = thinned(values, most)
    assert len(places) <= most and places == sorted(set(places))
    if len(values) <= most:
        assert places == list(range(len(values)))
    else:
        kept = [values[place] for place in places]
        assert (places[0], places[-1]) == (0, len(values) - 1)
        assert (min(kept), max(kept)) == (min(values), max(values))


def test_no_part_of_a_long_curve_is_left_out() -> None:
    places = thinned([float(step) for step in range(10_000)])
    assert len(places) == 64 and max(after - before for before, after in pairwise(places)) < 400
