"""`python -m hmrb`."""

from hmrb.cli import main

main()
