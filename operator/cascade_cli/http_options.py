"""Options of commands that ask a server: its address, and what to send along."""

import argparse
from pathlib import Path
from urllib.parse import urlsplit

from cascade_cli import values
from cascade_cli.errors import BadInput


def add_http_arguments(group: argparse._ArgumentGroup) -> None:
    """--header, --bearer-token-file, --ca-file."""
    group.add_argument(
        "--header",
        type=values.header,
        action="append",
        metavar="'NAME: VALUE'",
        help="a header of each request; may be given several times",
    )
    group.add_argument(
        "--bearer-token-file", type=Path, metavar="FILE", help="file with a token to send"
    )
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="certificates to trust, in PEM")


def headers_of(args: argparse.Namespace) -> dict[str, str]:
    """The headers that the arguments ask for. Raises BadInput."""
    headers = dict(args.header or ())
    if args.bearer_token_file is not None:
        try:
            token = args.bearer_token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not token.isprintable() or not token:
            raise BadInput(f"--bearer-token-file {args.bearer_token_file} holds no token")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def check_address(url: str, where: str) -> None:
    """Raise BadInput unless `url` is an HTTP address; `where` says whose."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise BadInput(f"{where}: this is no address; write http://HOST:PORT")
