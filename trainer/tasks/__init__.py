"""Tasks, such as image classification; `registry` finds a task by its name. `spec` modules import no torch."""
