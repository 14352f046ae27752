"""`python3 -m e2e.engine_simulator`: serve until stopped."""

import sys

import uvloop

from e2e.engine_simulator.options import InvalidOption, read_options
from e2e.engine_simulator.server import run


def main() -> None:
    """Read the options and serve; a wrong option ends with status 2 and a sentence."""
    try:
        options = read_options(sys.argv[1:])
    except InvalidOption as error:
        print(f"engine simulator: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
