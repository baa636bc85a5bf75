"""What is called how in the log of a cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Subjects:
    """Streams, subjects and consumers of the cluster ``name``."""

    name: str

    @property
    def inputs(self) -> str:
        """The stream that gateways append to."""
        return f"{self.name}-in"

    @property
    def results(self) -> str:
        """The stream that workers append to."""
        return self.name

    @property
    def result_subjects(self) -> list[str]:
        kinds = ("out.*", "state.*", "checkpoint.*", "model.*", "settings")
        return [f"{self.name}.{kind}" for kind in kinds]

    def input(self, shard: int | str) -> str:
        return f"{self.name}.in.{shard}"

    def output(self, shard: int | str) -> str:
        return f"{self.name}.out.{shard}"

    def state(self, shard: int | str) -> str:
        return f"{self.name}.state.{shard}"

    def checkpoint(self, shard: int) -> str:
        return f"{self.name}.checkpoint.{shard}"

    def model(self, fingerprint: str) -> str:
        return f"{self.name}.model.{fingerprint}"

    @property
    def settings(self) -> str:
        return f"{self.name}.settings"

    @property
    def members(self) -> str:
        """Where workers and gateways say that they are there; nothing of it is kept."""
        return f"{self.name}.members"

    def consumer(self, shard: int) -> str:
        """Of ``inputs``: it says who has a shard."""
        return f"shard-{shard}"
