"""The section of the configuration that says where a cluster's servers are, and what a gateway does."""

from typing import Annotated

from pydantic import AfterValidator, Field, Strict, ValidationInfo, field_validator

from streamrnn.settings.sections import Duration, Section, beside_the_file
from streamrnn.settings.values import check_server

LEAST_BLOCK, MOST_BLOCK = 1 << 12, 1 << 20  # bytes; what a server takes by default
Servers = Annotated[tuple[Annotated[str, AfterValidator(check_server)], ...], Strict(False)]


class Cluster(Section):
    servers: Servers = Field(default=(), description="NATS servers, as nats://10.0.0.1:4222 or tls://...")
    name: str = Field(default="streamrnn", description="of the cluster: what its subjects begin with")
    user: str = Field(default="", description='user to log in as, "" = none')
    password_file: str = Field(default="", description='file of the password, "" = none')
    credentials: str = Field(default="", description='file of NATS credentials (.creds), "" = none')
    ca_file: str = Field(default="", description='file of the CA of tls:// servers, "" = those of the system')
    cert_file: str = Field(default="", description='file of our own certificate, "" = none')
    key_file: str = Field(default="", description='file of its key, "" = in cert_file, too')
    gateway: str = Field(
        default="gateway", description="name of a gateway; by it what it published is remembered"
    )
    block_rows: int = Field(default=4096, ge=1, le=65536, description="rows in a block at most")
    block_bytes: int = Field(
        default=1 << 18, ge=LEAST_BLOCK, le=MOST_BLOCK, description="bytes in a block at most"
    )
    block_time: Duration = Field(default=0.01, gt=0, le=1, description="how long a row waits for others")

    @field_validator("name", "gateway")
    @classmethod
    def _is_a_word(cls, name: str) -> str:
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 32):
            raise ValueError(f"{name!r}: write 1 to 32 letters, digits, - and _")
        return name

    @field_validator("password_file", "credentials", "ca_file", "cert_file", "key_file")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        if name and info.field_name == "key_file" and info.data.get("cert_file") == "":
            raise ValueError("is the key of no certificate; name that in cluster.cert_file")
        if name and info.field_name == "password_file" and info.data.get("user") == "":
            raise ValueError("whose? write cluster.user")
        return beside_the_file(name, info)
