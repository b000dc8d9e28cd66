"""Ed25519 signatures of record files, beside them as ``.sig``.

Keys are PEM files: ``openssl genpkey -algorithm ed25519 -out key.pem`` and
``openssl pkey -in key.pem -pubout -out public.pem``.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from mmrev.atomic import write_bytes
from mmrev.limits import TABLE, refuse_larger

__all__ = ["check_signature", "private_key", "public_key", "sign"]


def private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read a private key; raises ValueError if there is none of Ed25519."""
    return _key(path, Ed25519PrivateKey, lambda pem: load_pem_private_key(pem, None))


def public_key(path: str | Path) -> Ed25519PublicKey:
    """Read a public key; raises ValueError if there is none of Ed25519."""
    return _key(path, Ed25519PublicKey, load_pem_public_key)


def _key(path: str | Path, kind: type, load) -> Ed25519PrivateKey | Ed25519PublicKey:
    refuse_larger(f"key {path}", Path(path).stat().st_size, TABLE)
    try:
        key = load(Path(path).read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kind):
        raise ValueError(
            f"key {path}: expected an {kind.__name__} as a PEM file without password; "
            "make one with: openssl genpkey -algorithm ed25519 -out key.pem && "
            "openssl pkey -in key.pem -pubout -out public.pem"
        )
    return key


def sign(record: Path, key: Ed25519PrivateKey) -> Path:
    """Write the signature of a record's file beside it."""
    path = record.with_suffix(".sig")
    write_bytes(path, key.sign(record.read_bytes()).hex().encode() + b"\n")
    return path


def check_signature(record: Path, key: Ed25519PublicKey) -> None:
    """Check the signature of a record's file.

    Raises:
        ValueError: There is none, or it is of another file or key.
    """
    path = record.with_suffix(".sig")
    try:
        refuse_larger(f"{path}", path.stat().st_size, TABLE)
        key.verify(bytes.fromhex(path.read_text()), record.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except (InvalidSignature, ValueError) as error:
        raise ValueError(f"{path} is of another file or another key") from error
