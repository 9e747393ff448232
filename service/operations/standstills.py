"""What reapers count together of leases that stand still, so that one which is restarted over and over finds them too."""

from collections.abc import Mapping

from service.domain.records import Standstill
from service.store import Store, registry


def lengthen_standstills(store: Store, counted: Mapping[Standstill, float]) -> list[Standstill]:
    """Add the seconds that this reaper saw since it read each; those that no other reaper has added to meanwhile come back, longer.

    Raises StoreUnavailable.
    """
    with store.writing() as tx:
        in_order = sorted(counted, key=lambda one: one.trial)
        longer = [one for one in in_order if registry.lengthen_standstill(tx, one, counted[one])]
    return [Standstill(one.trial, one.heartbeats, one.seconds + counted[one]) for one in longer]
