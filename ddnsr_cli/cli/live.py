"""What a person at a terminal sees of a training run: the latest figures in groups, over a bar of steps."""

from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ddnsr_cli.training.loop import StepReport
from ddnsr_cli.workflows.report.panels import panels_for


class LiveFigures:
    """To be shown by `rich.live.Live`, which asks for it a few times a second."""

    def __init__(self, steps: Progress) -> None:
        """steps: a bar, not started."""
        self._steps = steps
        self.latest: StepReport | None = None
        """The figures shown: means over the steps since the report before."""

    def __rich__(self) -> RenderableType:
        """The figures once there are some, and the bar."""
        if self.latest is None:
            return self._steps
        return Group(_table(self.latest), self._steps)


def _table(row: StepReport) -> Table:
    """A line a group, as the panels of the run's page group them."""
    table = Table.grid(padding=(0, 2))
    for panel in panels_for(row.figures):
        values = "  ".join(
            f"{label} {row.figures[name]:.4g}" for name, label in panel.figures.items() if name in row.figures
        )
        table.add_row(Text(panel.title, style="dim"), Text(values))
    speed = f"{row.images_per_s:.1f} images/s  waiting for data {row.waiting_share:.0%}"
    table.add_row(Text("Speed", style="dim"), Text(speed))
    table.add_row(Text("Means up to step", style="dim"), Text(f"{row.step:,}"))
    return table
