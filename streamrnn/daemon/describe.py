"""What a daemon says of itself."""

from streamrnn.daemon.sockets import Sockets
from streamrnn.model.model import Model
from streamrnn.settings.config import Config


def ready_line(config: Config, model: Model, workers: int, sockets: Sockets, page: str | None) -> str:
    """What the log says once it serves; ``page`` is host and port of its HTTP, if there is any."""
    takes = config.input.format if config.input.adapted else ""
    streams = f"{config.streams.capacity} streams{f' by {workers} workers' if workers > 1 else ''}"
    return (
        f"ready: {model.cell} {len(model.channels)} -> {model.hidden} x {len(model.layers)}, "
        f"{streams}; {_when(config, model)}"
        f"receives {takes}{' ' if takes else ''}on {', '.join(sockets.receives)}, "
        f"publishes on {', '.join(sockets.publishes)}{f', http://{page}' if page else ''}"
    )


def _when(config: Config, model: Model) -> str:
    """When there are answers, where that is not at each row."""
    every = config.predict.every
    if model.head_rows > 1 or not (model.answers_sequences or config.predict.horizon):
        return ""
    what = f"{model.relation}, answers" if model.answers_sequences else "rollouts"
    return f"{what} at END{f' and every {every} rows' if every else ' (predict.every = 0)'}; "


def labels_of(model: Model) -> dict[str, str]:
    """The labels of streamrnn_model_info."""
    return {
        "fingerprint": model.fingerprint,
        "cell": model.cell,
        "hidden": str(model.hidden),
        "layers": str(len(model.layers)),
        "channels": str(len(model.channels)),
        "outputs": str(len(model.outputs)),
    }
