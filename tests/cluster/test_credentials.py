"""NATS' own credentials: an operator, its account and a user whose file is the login; with --long."""

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from clusters import running

pytestmark = pytest.mark.skipif("not config.getoption('--long')", reason="one more server: run with --long")
NO_LIMITS = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
OF_JETSTREAM = ("mem_storage", "disk_storage", "streams", "consumer")


def pair(nkeys: Any, kind: str) -> tuple[Any, str, str]:
    """A new key, its public part, and its seed."""
    seed = bytes(nkeys.encode_seed(os.urandom(32), getattr(nkeys, f"PREFIX_BYTE_{kind}")))
    key = nkeys.from_seed(bytearray(seed))
    return key, key.public_key.decode(), seed.decode()


def signed(issuer: Any, subject: str, kind: str, **claims: object) -> str:
    """A JWT as NATS has it: claims of a kind, and an Ed25519 signature."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    issued = {"iat": int(time.time()), "iss": issuer.public_key.decode(), "sub": subject, "name": kind}
    body = issued | {"nats": claims | {"type": kind, "version": 2}}
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    parts = {"typ": "JWT", "alg": "ed25519-nkey"}, body
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(issuer.sign(text.encode()))}"


def make_credentials(nkeys: Any, to: Path) -> list[str]:
    """Writes a user's credentials. Returns the lines of the server that lets that user in."""
    operator, issuer, _ = pair(nkeys, "OPERATOR")
    account, who, _ = pair(nkeys, "ACCOUNT")
    _, system, _ = pair(nkeys, "ACCOUNT")
    _, user, seed = pair(nkeys, "USER")
    limits = dict.fromkeys(NO_LIMITS, -1) | {"wildcards": True}
    accounts = {
        who: signed(operator, who, "account", limits=limits | dict.fromkeys(OF_JETSTREAM, -1)),
        system: signed(operator, system, "account", limits=limits),
    }
    word = signed(account, user, "user", **dict.fromkeys(("subs", "data", "payload"), -1))
    parts = {"NATS USER JWT": word, "USER NKEY SEED": seed}
    to.touch(0o600)
    to.write_text("".join(f"-----BEGIN {k}-----\n{v}\n------END {k}------\n\n" for k, v in parts.items()))
    known = ", ".join(f"{key}: {token}" for key, token in accounts.items())
    return [
        f"operator: {signed(operator, issuer, 'operator', system_account=system)}",
        f"system_account: {system}",
        "resolver: MEMORY",
        f"resolver_preload: {{ {known} }}",
    ]


def test_credentials_of_nats(tmp_path, model_file):
    nkeys = pytest.importorskip("nkeys")
    lines = make_credentials(nkeys, tmp_path / "us.creds")
    login = 'credentials = "us.creds"\n'
    with running(tmp_path, model_file, toml=login, lines=lines) as cluster:
        cluster.init("--shards", "1")
        cluster.member("worker").wait_until_ready()
        assert "worker" in cluster.command("status").stdout
        make_credentials(nkeys, tmp_path / "us.creds")  # somebody else's
        assert "nobody lets us in" in cluster.command("status").stderr
