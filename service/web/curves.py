"""A study's learning curves of one metric, thinned to what a chart shows, and kept so that only what changed is read again."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.records import Study
from service.domain.thinning import thinned
from service.rest_models import CurvesView
from service.store import Store, queries
from service.store.queries import Curve, Moved
from service.web import API
from service.web.compression import Packed, packed
from service.web.dependencies import FoundStudy, TheAnswers
from service.web.table import After

MOST_CURVES = 5_000  # of an answer
MOST_BYTES = 64 * 1024 * 1024  # of all curves that are kept
OVERHEAD_BYTES = 200  # of a curve, beside its text
READ_TOGETHER = 128  # trials, so that no transaction is long
LISTED = 20  # metrics that a fault names

router = APIRouter(prefix=API, tags=["studies"])


@dataclass(slots=True)
class _Kept:
    """The curves of one metric of one study as they go out, by number, up to an event."""

    seq: int = 0
    texts: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # the last event that touched the trial, and its curve
    size: int = 0  # bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, moved: Moved, text: bytes) -> None:
        """The trial's curve; its place is the last, so that all stand in the order of their last events."""
        if (before := self.texts.pop(moved.number, None)) is not None:
            self.size -= len(before[1]) + OVERHEAD_BYTES
        self.texts[moved.number] = (moved.changed, text)
        self.size += len(text) + OVERHEAD_BYTES

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        """Those of trials that a later event touched. A curve without a point is told to those only who may know another one."""
        return [
            (changed, text or b"[%d,[],[]]" % number)
            for number, (changed, text) in self.texts.items()
            if changed > seq and (text or seq > 0)
        ]


class Curves:
    """Thinned curves of the studies that were asked for last. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all curves that are kept."""
        return sum(one.size for one in self._kept.values())

    def answer(self, study: Study, metric: str, after: int) -> bytes:
        """The body for the curves of trials that an event after `after` touched. Raises InvalidInput for a metric that nobody reported."""
        kept = self._of(study, metric)
        with kept.lock:
            self._bring_up(kept, study, metric)
            found, seq = kept.after(after), kept.seq
        self._make_room()
        more = len(found) > MOST_CURVES
        head = CurvesView(metric=metric, seq=found[MOST_CURVES - 1][0] if more else seq, more=more, curves=())
        return head.model_dump_json().encode().removesuffix(b"[]}") + b"[" + b",".join(text for _, text in found[:MOST_CURVES]) + b"]}"

    def _of(self, study: Study, metric: str) -> _Kept:
        with self._lock:
            if (found := self._kept.get((study.id, metric))) is not None:
                self._kept.move_to_end((study.id, metric))
                return found
        known = self._store.read(queries.metric_names, study.id)
        if known and metric not in known | {study.spec.objective.metric}:
            named = ", ".join(sorted(known)[:LISTED])
            raise InvalidInput([Fault(("query", "metric"), "unknown_metric", f"no trial reported this; they reported {named}")])
        if not known:
            return _Kept()  # nothing to keep, and the name may be anything
        with self._lock:
            return self._kept.setdefault((study.id, metric), _Kept())

    def _bring_up(self, kept: _Kept, study: Study, metric: str) -> None:
        """Read the curves of the trials that changed since. Their last events are read first: what comes later is read again."""
        with self._store.reading() as tx:
            seq = queries.find_study(tx, study.id).seq
            moved = queries.trials_moved(tx, study.id, kept.seq) if seq > kept.seq else []
        number, texts = {one.id: one.number for one in moved}, dict[int, bytes]()
        ids = sorted(number)
        for some in (ids[first : first + READ_TOGETHER] for first in range(0, len(ids), READ_TOGETHER)):
            with self._store.reading() as tx:
                texts |= {curve.trial: _text(number[curve.trial], curve) for curve in queries.curves(tx, some, metric)}
        for one in moved:
            kept.put(one, texts.get(one.id, b""))
        kept.seq = seq

    def _make_room(self) -> None:
        """Forget the curves that nobody asked for longest; the last ones stay, however large they are."""
        with self._lock:
            while len(self._kept) > 1 and self.size > MOST_BYTES:
                self._kept.popitem(last=False)


def _text(number: int, curve: Curve) -> bytes:
    """The curve as JSON, its values to five significant digits."""
    places = thinned(curve.values)
    steps = ",".join([str(curve.steps[place]) for place in places])
    values = ",".join(["%.5g"] * len(places)) % tuple([curve.values[place] for place in places])
    return f"[{number},[{steps}],[{values}]]".encode()


def curves_of(request: Request) -> Curves:
    """The app's curves."""
    return cast(Curves, request.app.state.curves)


TheCurves = Annotated[Curves, Depends(curves_of)]


@router.get("/studies/{study}/curves", summary="Show a study's learning curves", response_model=CurvesView)
def show_curves(
    study: FoundStudy,
    request: Request,
    answers: TheAnswers,
    curves: TheCurves,
    metric: Annotated[str | None, Query(max_length=64, description="the objective's when it is left out", examples=["loss"])] = None,
    after: After = 0,
) -> Response:
    """The curve of one metric of each trial that an event after this sequence number touched: up to 5,000 curves in one answer."""
    name = metric or study.spec.objective.metric
    key = ("curves", study.id, study.seq, after, name)
    return Packed(answers.get_or_compute(key, lambda: packed(curves.answer(study, name, after))), request.headers)
