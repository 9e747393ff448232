"""Which outputs of frozen stages are worth storing: the choice that takes a study the least time within a budget of bytes.

The idea is Nautilus' (Nakandala and Kumar, SIGMOD 2022). A run that freezes k stages may read the output of any d <= k of them in
place of computing it. What that spares an example, computing less reading, depends on d alone; so a stored depth serves all runs from
its own k on up to the next stored depth, and the best choice is found depth by depth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from trainer.memory import readable

LEAST_SECONDS = 0.1  # what is spared must be worth a file, and be no mere accident of a measurement
UNITS = 512  # steps in which bytes are weighed where the budget is short, so that many depths stay quick to plan


@dataclass(frozen=True)
class Problem:
    """One part of the examples. Seconds and bytes are those of one example; tuples have an item a stage, from the input on."""

    input_seconds: float  # of reading an example, which reading the output spares too
    stage_seconds: tuple[float, ...]
    read_seconds: tuple[float, ...]  # of the output of the stages up to this one
    write_seconds: tuple[float, ...]
    row_bytes: tuple[int, ...]
    examples: int
    views: int  # how often each is stored, differently augmented
    demand: Mapping[int, float]  # passes over the examples still to come in the study, by number of frozen stages
    stored: Mapping[int, float]  # share of the bytes that is there already, by depth
    budget: int  # bytes

    @cached_property
    def computing(self) -> tuple[float, ...]:
        """Seconds from the examples to the output of the first d stages, by depth d from 0."""
        return tuple(accumulate(self.stage_seconds, initial=self.input_seconds))

    def spared(self, depth: int) -> float:
        """Seconds that reading at the depth spares an example."""
        return self.computing[depth] - self.read_seconds[depth - 1]

    def building(self, depth: int) -> float:
        """Seconds until all that is missing at the depth is stored."""
        missing = 1 - self.stored.get(depth, 0.0)
        return missing * self.examples * self.views * (self.computing[depth] + self.write_seconds[depth - 1])

    def size(self, depth: int) -> int:
        """Bytes of everything at the depth."""
        return self.examples * self.views * self.row_bytes[depth - 1]

    def read(self, first: int, end: int) -> float:
        """Examples that runs with `first` to `end - 1` frozen stages are still to read."""
        return self.examples * sum(passes for frozen, passes in self.demand.items() if first <= frozen < end)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which depths are stored, and what that is expected to bring."""

    depths: tuple[int, ...]
    seconds: float  # of computing, building and reading the outputs of frozen stages, in all that is still to come
    bypass_seconds: float  # the same with nothing read
    size: int  # bytes

    def source(self, frozen: int) -> int:
        """The depth that a run with so many frozen stages reads; 0 when it computes everything."""
        return max((depth for depth in self.depths if depth <= frozen), default=0)

    def __str__(self) -> str:
        if not self.depths:
            return f"nothing is stored: the frozen stages take {self.bypass_seconds:.3g} s, storing would not spare {LEAST_SECONDS} s"
        listed = ", ".join(map(str, self.depths))
        return (
            f"stored behind {listed} stages, {readable(self.size)}: {self.seconds:.3g} s in place of {self.bypass_seconds:.3g} s expected"
        )


@dataclass(frozen=True, slots=True)
class _Chain:
    """Depths that are stored, each sparing more than the one before."""

    depths: tuple[int, ...] = ()
    size: int = 0  # bytes
    weight: int = 0  # units of bytes
    gain: float = 0.0  # seconds, without what the last depth spares


def plan(problem: Problem) -> Plan:
    """The best choice of depths; none when that spares too little."""
    bypass = sum(problem.examples * passes * problem.computing[frozen] for frozen, passes in problem.demand.items())
    found = _best(problem, None)
    if found.size > problem.budget:
        found = _best(problem, problem.budget)
    gain = _closed(problem, found)
    if gain < LEAST_SECONDS:
        return Plan((), bypass, bypass, 0)
    return Plan(found.depths, bypass - gain, bypass, found.size)


def _best(problem: Problem, budget: int | None) -> _Chain:
    """The chain of the highest gain, of those that the budget allows; where several are equal, the smallest."""
    deepest = max(problem.demand, default=0)
    depths = [depth for depth in range(1, deepest + 1) if problem.spared(depth) > 0]
    unit = max(1, -(-sum(map(problem.size, depths)) // UNITS))
    fronts: dict[int, list[_Chain]] = {0: [_Chain()]}  # by the last depth
    for depth in depths:
        longer = [_longer(problem, chain, depth, unit) for chain in _shorter(problem, fronts, depth)]
        if budget is None:
            fronts[depth] = [min(longer, key=lambda chain: (-chain.gain, chain.size))]
        else:
            fronts[depth] = _front([chain for chain in longer if chain.weight * unit <= budget])
    return min((chain for front in fronts.values() for chain in front), key=lambda chain: (-_closed(problem, chain), chain.size))


def _shorter(problem: Problem, fronts: Mapping[int, list[_Chain]], depth: int) -> Iterator[_Chain]:
    for last, front in fronts.items():
        if not last or problem.spared(last) < problem.spared(depth):
            yield from front


def _longer(problem: Problem, chain: _Chain, depth: int, unit: int) -> _Chain:
    size = problem.size(depth)
    gain = _closed(problem, chain, depth) - problem.building(depth)
    return _Chain((*chain.depths, depth), chain.size + size, chain.weight - (-size // unit), gain)


def _closed(problem: Problem, chain: _Chain, end: int = 2**31) -> float:
    """The chain's gain with what its last depth spares the runs that freeze fewer than `end` stages."""
    if not chain.depths:
        return chain.gain
    last = chain.depths[-1]
    return chain.gain + problem.spared(last) * problem.read(last, end)


def _front(chains: list[_Chain]) -> list[_Chain]:
    """Those of which no lighter one gains as much."""
    front = list[_Chain]()
    for chain in sorted(chains, key=lambda chain: (chain.weight, -chain.gain)):
        if not front or chain.gain > front[-1].gain:
            front.append(chain)
    return front
