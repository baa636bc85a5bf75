"""The section of the configuration that says who may look over HTTP, and who may do something there."""

from pydantic import Field, ValidationInfo, field_validator

from streamrnn.settings.sections import Section, beside_the_file
from streamrnn.settings.values import parse_listen


class Http(Section):
    listen: str = Field(
        default="127.0.0.1:9464", description='host:port of page, metrics and health checks, "" = off'
    )
    token_file: str = Field(default="", description='file of the token that `control` asks for, "" = none')
    control: bool = Field(
        default=False, description="true lets whoever has the token change streams over HTTP"
    )

    @field_validator("listen")
    @classmethod
    def _can_listen(cls, listen: str) -> str:
        parse_listen(listen)
        return listen

    @field_validator("token_file")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        return beside_the_file(name, info)

    @field_validator("control")
    @classmethod
    def _has_a_door_and_a_key(cls, control: bool, info: ValidationInfo) -> bool:
        if control and info.data.get("token_file") == "":
            raise ValueError(
                "true needs http.token_file; name a file that its owner alone can read and that holds a "
                "token, as `openssl rand -hex 32` makes one"
            )
        if control and info.data.get("listen") == "":
            raise ValueError("true is of no use where no HTTP is served; set http.listen")
        return control

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on, None for off."""
        return parse_listen(self.listen)
