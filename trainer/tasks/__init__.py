"""Tasks, a package each; `registry` finds a task by its name. `spec` modules import no torch."""
