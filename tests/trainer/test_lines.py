"""The language between supervisor and trainer carries every number that a run can measure."""

import math

from trainer.protocol import LINES, EpochMetrics, Failed


def test_nan_and_infinity_travel_in_a_line() -> None:
    line = LINES.dump_json(EpochMetrics(step=1, metrics={"loss": math.nan, "f1": math.inf, "lr": -math.inf}))
    back = LINES.validate_json(line)
    assert isinstance(back, EpochMetrics) and math.isnan(back.metrics["loss"])
    assert (back.metrics["f1"], back.metrics["lr"]) == (math.inf, -math.inf)


def test_a_line_is_one_line_whatever_it_says() -> None:
    assert b"\n" not in LINES.dump_json(Failed(reason="crashed", detail="first\nsecond\u2028third"))
