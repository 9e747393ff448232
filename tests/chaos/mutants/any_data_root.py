"""A link inside a data root leads anywhere: paths are compared as they are written."""

SCENARIO = "tests/chaos/test_f16_access.py::test_no_link_leads_out_of_a_data_root[sqlite]"


def plant() -> None:
    from collections.abc import Sequence
    from pathlib import Path

    from service import inspection

    def is_outside(path: Path, allowed: Sequence[Path]) -> bool:
        return bool(allowed) and not any(path.is_relative_to(root) for root in allowed)

    inspection.is_outside = is_outside  # type: ignore[assignment]
