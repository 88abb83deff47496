"""``python -m wcordbench``: the command, where its script is not on the path."""

from wcordbench.cli.main import main

main()
