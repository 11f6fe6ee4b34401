"""A certificate authority of the tests' own, and servers' certificates that it signs."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PEM, _CLEAR = serialization.Encoding.PEM, serialization.NoEncryption()
_KEY = ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(subject: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now, serial = datetime.now(UTC), x509.random_serial_number()
    begins, ends = now - timedelta(days=9), now + timedelta(days=days)
    names = _name("authority"), _name(subject)
    return x509.CertificateBuilder(*names, key.public_key(), serial, begins, ends)


def authority() -> str:
    """Return the authority's own certificate, PEM."""
    basic = x509.BasicConstraints(ca=True, path_length=0)
    signed = _builder("authority", _KEY, 1).add_extension(basic, True).sign(_KEY, hashes.SHA256())
    return signed.public_bytes(_PEM).decode()


def server_side(folder: Path, host: str, days: int = 1) -> ssl.SSLContext:
    """Return a server's side of TLS, for a name, until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    signed = _builder(host, key, days).add_extension(names, False).sign(_KEY, hashes.SHA256())
    path = folder / f"{host}.pem"
    clear = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, _CLEAR)
    path.write_bytes(clear + signed.public_bytes(_PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
