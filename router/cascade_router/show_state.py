"""The command `python3 -m cascade_router.show_state`, run in a router's container: prints what the
router knows and does, see `state_page`.

It signs its request with the key of the sidecars, so whoever may run commands in the pod can see
the state, and nobody else has to be let in for it.
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

from cascade_policy.names import HEADER_HOP
from cascade_router.api import STATE_PATH
from cascade_router.config import Config, InvalidConfig
from cascade_router.hop import HopKeyError, KeyFile, sign, signed_text

SECONDS: Final = 10.0
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NoState(Exception):
    """The router did not show its state; the message says why."""


def fetch_state(env: Mapping[str, str]) -> Any:
    """The state of the router that runs with this environment. Raises NoState."""
    try:
        config = Config.from_env(env)
        key = KeyFile(config.hop_key_file).keys(time.monotonic())[0]
    except (InvalidConfig, HopKeyError) as error:
        raise NoState(str(error)) from None
    text = signed_text(STATE_PATH, config.address)
    headers = {HEADER_HOP: sign(key, text, time.time(), token_hex(16))}
    host = _ANYWHERE.get(config.listen_host, config.listen_host)
    connection = http.client.HTTPConnection(host, config.listen_port, timeout=SECONDS)
    try:
        connection.request("GET", STATE_PATH, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoState(f"the router at {host}:{config.listen_port}: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise NoState(f"the router answered with status {answer.status}")
    return json.loads(body)


def main() -> None:
    """Print the state, or why there is none, with exit status 1."""
    try:
        print(json.dumps(fetch_state(os.environ), indent=2))
    except NoState as error:
        sys.exit(f"cascade-router: {error}")


if __name__ == "__main__":
    main()
