"""What a user may say about encryption; `store.listen` does it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Tls(BaseModel):
    """Encryption of listeners."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    cert_file: Path
    """The server's certificate and the chain below its root, in PEM."""
    key_file: Path
    """Its private key, in PEM, without a passphrase."""
    client_ca_file: Path | None = None
    """If given, only clients with a certificate of one of these authorities are let in (mTLS)."""
