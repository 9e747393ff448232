"""The token of a claim is accepted for other attempts at its trial, too."""

import hmac
from collections import defaultdict
from types import SimpleNamespace

from service.domain.records import RestClaim
from service.store import Transaction

SCENARIO = "tests/chaos/test_f22_claims.py -k sqlite"


def plant() -> None:
    from service.store import queries
    from service.web import claims

    find_claim = queries.find_claim
    seen = defaultdict[int, set[str]](set)  # digests by trial

    def remembered(tx: Transaction, study_id: str, number: int, of_attempt: int) -> RestClaim:
        found = find_claim(tx, study_id, number, of_attempt)
        seen[found.lease.trial].add(found.token_sha256)
        return found

    def is_known(token: str, expected: str) -> bool:
        return token == expected or any({token, expected} <= digests for digests in seen.values())

    queries.find_claim = remembered
    claims.hmac = SimpleNamespace(compare_digest=is_known, new=hmac.new)  # type: ignore[assignment,attr-defined]
