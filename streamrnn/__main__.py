"""``python -m streamrnn`` is the ``streamrnn`` command."""

from streamrnn.cli import main

main(prog_name="streamrnn")
