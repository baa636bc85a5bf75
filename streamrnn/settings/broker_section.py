"""The section of the configuration that says how MQTT brokers are met."""

from pydantic import Field, ValidationInfo, field_validator

from streamrnn.settings.sections import Section, beside_the_file

CLIENT_ID_BYTES = 120  # and a number; brokers may refuse more than 23 letters and digits, few do


class Mqtt(Section):
    client_id: str = Field(
        default="", description='name by which brokers keep what comes meanwhile; "" = keep nothing'
    )
    password_file: str = Field(default="", description='file of the password, "" = none')
    ca_file: str = Field(
        default="", description='file of the CA of mqtts:// brokers, "" = those of the system'
    )
    cert_file: str = Field(default="", description='file of our own certificate, "" = none')
    key_file: str = Field(default="", description='file of its key, "" = in cert_file, too')
    retained: bool = Field(
        default=False, description="true takes retained messages as well: the last of each topic, old or not"
    )

    @field_validator("client_id")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not name.isprintable() or len(name.encode()) > CLIENT_ID_BYTES:
            raise ValueError(f"write at most {CLIENT_ID_BYTES} letters and digits")
        return name

    @field_validator("password_file", "ca_file", "cert_file", "key_file")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        if name and info.field_name == "key_file" and info.data.get("cert_file") == "":
            raise ValueError("is the key of no certificate; name that in mqtt.cert_file")
        return beside_the_file(name, info)
