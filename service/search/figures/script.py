"""Plotly's script as the installed package `plotly` brings it."""

import importlib.util
from importlib import metadata
from pathlib import Path

from service.domain.errors import PlotlyMissing


def script_version() -> str:
    """The version of the installed package. Raises PlotlyMissing."""
    try:
        return metadata.version("plotly")
    except metadata.PackageNotFoundError:
        raise PlotlyMissing from None


def script_file() -> Path:
    """Where the script lies; the package is not imported for it. Raises PlotlyMissing."""
    found = importlib.util.find_spec("plotly")
    for folder in (found and found.submodule_search_locations) or ():
        if (file := Path(folder) / "package_data" / "plotly.min.js").is_file():
            return file
    raise PlotlyMissing
