"""`python -m service.cli` is `thaw`."""

from service.cli.app import main

main()
