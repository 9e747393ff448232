"""What differs between tasks; `registry` finds one by its name. `spec` modules import no torch."""
