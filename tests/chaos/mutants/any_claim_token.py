"""A claim is accepted with any token."""

import hmac
from types import SimpleNamespace

SCENARIO = "tests/chaos/test_f22_claims.py -k sqlite"


def plant() -> None:
    from service.web import claims

    claims.hmac = SimpleNamespace(compare_digest=lambda *_: True, new=hmac.new)  # type: ignore[assignment,attr-defined]
