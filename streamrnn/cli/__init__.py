"""The commands: each parses its arguments and calls the function that does the work.

What is slow to import (numba, pyarrow, zmq, pydantic) is imported inside a command, so that help is fast.
"""

import click

from streamrnn import __version__
from streamrnn.cli import cluster, events, files, models, record, run, state
from streamrnn.cli.shared import Commands, example


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=example("streamrnn demo", "streamrnn serve model.safetensors --connect tcp://localhost:5555"),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Run a recurrent network over live sensor streams.

    Data goes to stdout, words to stderr. Exit codes: 0 done, 1 the work failed, 2 wrong usage,
    78 wrong configuration.
    """


for command in (
    *(run.demo, run.serve, run.bench, run.size, run.keygen, run.config, record.record),
    *(files.replay, files.send, files.tail, files.inspect, models.train, models.import_),
    *(state.state, state.promote, events.events),
    *(cluster.gateway, cluster.worker, cluster.cluster),
):
    main.add_command(command)
