"""What a request to Prometheus carries to be let in, read from files when it is needed."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cascade_operator.connection import HEADER_NAME, Connection
from cascade_prometheus.client import InvalidAuthorities, check_authorities

_MAX_BYTES: Final = 65536
"""More than any token; a file without end would fill the memory."""


class InvalidCredentials(ValueError):
    """A file holds nothing to use; the message names it and shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Headers, and files of the kind that TLS libraries read themselves."""

    headers: Mapping[str, str] = field(repr=False)
    verify: bool | str
    """Whose certificates are trusted: the public authorities', nobody's (all), or a file's."""
    certificate: tuple[str, str] | None


def read_credentials(connection: Connection) -> Credentials:
    """The credentials as they are now. Raises InvalidCredentials."""
    if connection.ca_file is not None:
        try:
            check_authorities(connection.ca_file)
        except InvalidAuthorities as error:
            raise InvalidCredentials(str(error)) from None
    return Credentials(
        headers={**connection.headers, **_headers(connection), **_authorization(connection)},
        verify=connection.ca_file or not connection.insecure,
        certificate=_certificate(connection),
    )


def _authorization(connection: Connection) -> Mapping[str, str]:
    if connection.token_file is not None:
        return {"Authorization": f"Bearer {_line(Path(connection.token_file))}"}
    if connection.username_file is not None and connection.password_file is not None:
        user = _line(Path(connection.username_file))
        if ":" in user:
            raise InvalidCredentials(f"{connection.username_file} holds a ':', which no user may")
        pair = f"{user}:{_line(Path(connection.password_file))}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _headers(connection: Connection) -> Mapping[str, str]:
    """A mounted Secret also holds names that begin with a dot: links of the kubelet's."""
    if connection.headers_folder is None:
        return {}
    folder = Path(connection.headers_folder)
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InvalidCredentials(f"{folder} cannot be read: {error.strerror or error}") from None
    for path in files:
        if not HEADER_NAME.fullmatch(path.name):
            raise InvalidCredentials(f"{path}: its name is not that of a header")
    return {path.name: _line(path) for path in files}


def _line(path: Path) -> str:
    """The one line that a file holds."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidCredentials(f"{path} cannot be read: {error.strerror or error}") from None
    text = content.strip().decode("latin-1")
    if not text or len(content) > _MAX_BYTES or not text.isascii() or not text.isprintable():
        raise InvalidCredentials(f"{path} does not hold one line of printable ASCII")
    return text


def _certificate(connection: Connection) -> tuple[str, str] | None:
    if connection.certificate_file is None or connection.key_file is None:
        return None
    pair = (connection.certificate_file, connection.key_file)
    try:
        # The empty password keeps OpenSSL from asking a person for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*pair, password="")
    except ssl.SSLError:
        raise InvalidCredentials(
            f"{pair[0]} and {pair[1]} are not a certificate and its key in PEM, without a password"
        ) from None
    except OSError as error:
        raise InvalidCredentials(
            f"{pair[0]} or {pair[1]} cannot be read: {error.strerror or error}"
        ) from None
    return pair
