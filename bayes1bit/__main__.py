"""``python -m bayes1bit`` is the command line."""

from bayes1bit.cli import main

main()
