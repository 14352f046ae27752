"""What was found, for a terminal and as a page."""

from collections.abc import Iterator
from dataclasses import dataclass

from e2e.bench.gpu_bench.penalty import Penalty, Timing, penalties, slope

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Report:
    """One run. Without a GPU the times are those of an interpreter and tell nothing."""

    device: str
    torch: str
    is_measured: bool
    timings: list[Timing]

    def text(self) -> str:
        """Lines for a terminal."""
        kernels = len({one.kernel for one in self.timings})
        batches = len(self.timings) // kernels if kernels else 0
        right = f"{kernels} kernels computed {batches} batches right"
        if not self.is_measured:
            return f"{right}; there is no GPU, so nothing was measured"
        return "\n".join([f"{self.device}, PyTorch {self.torch}: {right}", *self._lines()])

    def page(self) -> str:
        """The results as a page in Markdown."""
        head = "# What uneven lengths cost attention\n\nMade by `e2e/bench/gpu --results FILE`. "
        if not self.is_measured:
            return f"{head}No GPU was at hand: **{NOT_MEASURED}**.\n"
        about = (
            f"{self.device}, PyTorch {self.torch}.\nH is the time of an uneven batch over that of "
            "an even one with as many sequences and KV tokens.\n\n"
        )
        rows = ["| kernel | sequences | tokens each | lengths | cv | ms | H |",
                "|---|---:|---:|---|---:|---:|---:|"]  # fmt: skip
        rows += [_row(one) for one in penalties(self.timings)]
        slopes = [f"- {line}" for line in self._slopes()]
        return head + about + "\n".join(rows) + "\n\n" + "\n".join(slopes) + "\n"

    def _lines(self) -> Iterator[str]:
        for one in penalties(self.timings):
            timing = one.timing
            yield (
                f"{timing.kernel:24} {timing.sequences:4} x {timing.tokens // timing.sequences:5} "
                f"{timing.batch:8} cv {timing.cv:4.2f}  {timing.ms:8.3f} ms  H {one.factor:5.2f}"
            )
        yield from self._slopes()

    def _slopes(self) -> Iterator[str]:
        """`heterogeneity` by kernel."""
        found = penalties(self.timings)
        for kernel in dict.fromkeys(one.timing.kernel for one in found):
            h = slope([one for one in found if one.timing.kernel == kernel])
            yield f"{kernel}: heterogeneity {h:.3f}"


def _row(one: Penalty) -> str:
    timing = one.timing
    each = timing.tokens // timing.sequences
    return (
        f"| {timing.kernel} | {timing.sequences} | {each} | {timing.batch} | {timing.cv:.2f} "
        f"| {timing.ms:.3f} | {one.factor:.2f} |"
    )
