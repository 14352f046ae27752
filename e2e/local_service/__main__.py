"""`python -m e2e.local_service --stages 0,0,1 --ends 1024`: runs until interrupted."""

import argparse
import signal
import sys

from e2e.local_service.service import ServiceFailed, ServicePlan, local_service


def main() -> int:
    """Start, say where clients may go, and stop on SIGINT or SIGTERM."""
    options = _options()
    plan = ServicePlan(stages=options.stages, ends=options.ends, max_length=options.max_length)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with local_service(plan) as service:
            for url in service.urls:
                print(url, flush=True)
            signal.pause()
    except ServiceFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.local_service",
        description="Engine simulators behind real routers, as processes on this machine. Prints "
        "the URL of each router.",
    )
    parser.add_argument(
        "--stages", type=_numbers, default=[0, 1], help="stage of each instance (default: 0,1)"
    )
    parser.add_argument(
        "--ends", type=_numbers, default=[1024], help="greatest length of each stage but the last"
    )
    parser.add_argument("--max-length", type=int, default=16384, help="tokens")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    sys.exit(main())
