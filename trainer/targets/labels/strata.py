"""Strata of a split of examples with sets of labels. Imports no torch."""

from collections import Counter
from collections.abc import Mapping, Sequence

from trainer.configuration import DataConfig, Part, split_sizes
from trainer.data.targets import Strata
from trainer.targets.labels.config import parted

NO_LABEL, OTHERS = "(no label)", "(rare labels)"
Parts = Counter[Part | None]


def strata_of(counts: Mapping[str, Parts], data: DataConfig, given: Sequence[Part]) -> Strata:
    """The stratum of each target is its rarest label, given the number of examples by target and part.

    Strata that are too small to be divided by the shares of `data`, or that one of the given parts lacks, are merged into one. Where no
    part is drawn, all examples are one stratum.
    """
    totals = Counter[str]()
    for target, own in counts.items():
        totals.update({name: own.total() for name in parted(target)})
    rarest = {target: min(parted(target), key=lambda name: (totals[name], name), default=NO_LABEL) for target in counts}
    sizes = dict[str, Parts]()
    for target, own in counts.items():
        sizes[rarest[target]] = sizes.get(rarest[target], Parts()) + own
    shares = [share for part, share in (("validation", data.validation), ("test", data.test)) if share > 0 and part not in given]
    if not shares:
        return _strata(rarest, merged={*sizes})
    merged = {name for name, own in sizes.items() if _drawn(own, given) * min(shares) < 1 or any(not own[part] for part in given)}
    for name in sorted(sizes, key=lambda name: (sizes[name].total(), name)):  # until the merged ones can be divided themselves
        together = sum((sizes[one] for one in merged), Parts())
        if not merged or (split_sizes(_drawn(together, given), data, given)[0] >= 1 and all(together[part] for part in given)):
            break
        merged.add(name)
    return _strata(rarest, merged)


def _drawn(own: Parts, given: Sequence[Part]) -> int:
    """The number of examples from which parts are drawn."""
    return own["train"] if given else own[None]


def _strata(rarest: Mapping[str, str], merged: set[str]) -> Strata:
    names = sorted({*rarest.values()} - merged) + ([OTHERS] if merged else [])
    places = {name: place for place, name in enumerate(names)}
    of = {target: places[OTHERS if name in merged else name] for target, name in rarest.items()}
    return Strata(names=tuple(names), of=of, merged=len(merged) if len(names) > 1 else 0)
