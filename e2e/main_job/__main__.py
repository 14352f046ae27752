"""`e2e/demo`: exit status 0 when nothing was lost, restarted or wrong, 1 when something was."""

import sys

from rich.console import Console

from e2e import cluster as clusters
from e2e.harness.deadline import DeadlinePassed
from e2e.harness.kubectl import KubectlFailed
from e2e.harness.load import LoadFailed
from e2e.harness.release import HelmFailed
from e2e.main_job import job
from e2e.main_job.options import parse
from e2e.main_job.view import Reporter


def main(arguments: list[str]) -> int:
    """Run the demo or take its cluster down; the exit status."""
    options = parse(arguments)
    console = Console(force_terminal=False if options.plain else None, soft_wrap=True)
    reporter = Reporter(console)
    if options.down:
        clusters.down(reporter.say)
        return 0
    try:
        outcome = job.run(options, reporter)
    except (
        clusters.ClusterError,
        DeadlinePassed,
        HelmFailed,
        KubectlFailed,
        LoadFailed,
    ) as error:
        console.print(f"[bold red]The demo stopped:[/] {error}", highlight=False)
        return 1
    return 1 if outcome.failures() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
