"""Why a model cannot be built as the config asks. The texts are meant for the user."""


class UnfitModel(Exception):
    """The base of all of them; itself for a model of unknown name."""


class Infeasible(UnfitModel):
    """This combination of hyperparameters cannot be trained; others can, on the same data, model and weights."""


class UnfitWeights(UnfitModel):
    """The weights were read, and are not this model's; the text names the tensors."""


class WeightsUnavailable(UnfitModel):
    """The weights could not be had: no such file, no such name, or a download that failed."""


class MissingWeights(WeightsUnavailable):
    """The weights cannot be read or downloaded on this machine; another machine, or a later try, may have them."""
