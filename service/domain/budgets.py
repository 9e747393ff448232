"""Changes of a study's budget: parsed from a request, and applied to the current budget under the study's lock."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, FiniteFloat, StrictInt, ValidationError

from search_spaces import Fault
from search_spaces.parameters import FrozenModel
from service.domain.errors import InvalidInput
from service.domain.fault_messages import faults_of
from service.domain.spec import MAX_TRIALS, Budget
from trainer.configuration import counted


class BudgetFields(FrozenModel):
    """New values of budget fields. null removes a bound; fields that are left out keep their value."""

    trials: StrictInt | None = Field(default=None, ge=1, le=MAX_TRIALS)
    hours: FiniteFloat | None = Field(default=None, gt=0, le=100_000)
    parallel: StrictInt | None = Field(default=None, ge=1, le=10_000)


class More(FrozenModel):
    """Amounts to add to the current budget. Two such requests add both amounts."""

    trials: StrictInt | None = Field(default=None, ge=1, le=MAX_TRIALS)
    hours: FiniteFloat | None = Field(default=None, gt=0, le=100_000)


class BudgetChange(FrozenModel):
    """A budget change: either new values of fields, or amounts to add to them."""

    budget: BudgetFields | None = None
    add: More | None = None

    def applied(self, before: Budget, *, created: int, hours_used: float) -> Budget:
        """The new budget of a study with `created` trials. Raises InvalidInput when it is invalid, or too small for them."""
        values = before.model_dump()
        if self.budget is not None:
            values |= self.budget.model_dump(include=self.budget.model_fields_set)
        if self.add is not None:
            values |= self._sums(before)
        trials, hours = values["trials"], values["hours"]
        faults = []
        if trials is None and hours is None:
            faults.append(Fault(self._place(), "endless", "a budget needs trials, hours, or both; give one of them a number"))
        if trials is not None and trials > MAX_TRIALS:
            faults.append(Fault(self._place("trials"), "too_many_trials", f"a study has at most {MAX_TRIALS} trials; add fewer"))
        if trials is not None and trials < created:
            message = f"the study has {counted(created, 'trial')} already; write budget.trials as {created} or more"
            faults.append(Fault(self._place("trials"), "below_existing", message))
        if hours is not None and hours != before.hours and hours <= hours_used:
            message = f"the study has run for {hours_used:.2f} hours already; write budget.hours as more than that"
            faults.append(Fault(self._place("hours"), "below_existing", message))
        if faults:
            raise InvalidInput(faults)
        try:
            return Budget.model_validate(values)
        except ValidationError as error:  # hours above the upper bound
            raise InvalidInput([Fault(self._place(), "out_of_range", str(item["msg"])) for item in error.errors()]) from None

    def too_small(self, created: int) -> Fault:
        """The fault of a change that leaves a complete study without budget for another trial."""
        message = (
            f"the study is complete with {counted(created, 'trial')} and this budget allows no more; raise budget.trials above {created}"
        )
        return Fault(self._place("trials"), "no_room", f"{message}, and raise budget.hours too if they are used up")

    def _sums(self, before: Budget) -> Mapping[str, Any]:
        """The new values. Raises InvalidInput where the budget has no bound to add to."""
        added = {name: value for name, value in (self.add.model_dump() if self.add else {}).items() if value is not None}
        if unbounded := [name for name in added if getattr(before, name) is None]:
            raise InvalidInput(
                Fault(("add", name), "no_bound", f"the study has no bound on {name} to add to; set one with budget.{name}")
                for name in unbounded
            )
        return {name: getattr(before, name) + value for name, value in added.items()}

    def _place(self, *field: str) -> tuple[str, ...]:
        return ("add" if self.add is not None else "budget", *field)


def parse_budget_change(document: object) -> BudgetChange:
    """The change that a request asks for. Raises InvalidInput."""
    if not isinstance(document, dict) or len(document.keys() & {"budget", "add"}) != 1:
        example = '{"budget": {"trials": 60}} sets the number of trials, {"add": {"trials": 20}} adds to it'
        raise InvalidInput([Fault((), "one_change", f"send an object with either `budget` or `add`: {example}")])
    try:
        change = BudgetChange.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(fault for item in error.errors(include_url=False) for fault in faults_of(item)) from None
    given = change.budget or change.add
    if given is None or not given.model_fields_set:
        (place,) = document.keys() & {"budget", "add"}
        raise InvalidInput([Fault((place,), "missing", "name a field of the budget to change: trials or hours")])
    return change
