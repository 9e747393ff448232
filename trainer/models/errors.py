"""Why a model cannot be built as the config asks. The texts are meant for the user."""


class UnfitModel(Exception):
    """The base of all of them; itself for a model or a number of frozen stages that there is not."""


class UnfitWeights(UnfitModel):
    """The weights were read, and are not this model's; the text names the tensors."""


class WeightsUnavailable(UnfitModel):
    """The weights could not be had: no such file, no such name, or a download that failed."""


class UnfitImageSize(UnfitModel):
    """The network cannot take images of this size."""
