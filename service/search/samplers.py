"""From a sampler's name and options in the spec to the sampler."""

from typing import assert_never

from service.domain.samplers import CmaEs, Gp, Grid, Nsga2, Qmc, Random, Tpe
from service.domain.spec import StudySpec
from service.search.asking import GaussianProcess, Nsga, QuasiMonteCarlo
from service.search.cma_es import CmaSearch
from service.search.distributions import Distributions
from service.search.grid import GridSearch
from service.search.history import History
from service.search.sampler import RandomSearch, Sampler
from service.search.tpe import TpeSearch


def sampler_for(spec: StudySpec, distributions: Distributions, history: History) -> Sampler:
    """The study's sampler."""
    match spec.sampler:
        case Tpe() as options:
            return TpeSearch(spec, distributions, history, options)
        case Random():
            return RandomSearch(spec, distributions, history)
        case Grid():
            return GridSearch(spec, distributions, history)
        case Gp() as options:
            return GaussianProcess(spec, distributions, history, options)
        case CmaEs() as options:
            return CmaSearch(spec, distributions, history, options)
        case Qmc() as options:
            return QuasiMonteCarlo(spec, distributions, history, options)
        case Nsga2() as options:
            return Nsga(spec, distributions, history, options)
        case _:
            assert_never(spec.sampler)
