"""`python -m service.cli` is `thaw`."""

from service.cli.commands import main

main()
