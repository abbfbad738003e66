"""How jobs reach the processes."""

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.operations.rollout import Rollout
from l2_platform.operations.supervisord import Supervisor
from l2_platform.resources.worker_control import WorkerControl
from l2_platform.settings import Settings


class ProcessManagerResource(dg.ConfigurableResource[WorkerControl]):
    """Gives a WorkerControl over the instance's process manager."""

    settings: dg.ResourceDependency[Settings]

    def control(self) -> WorkerControl:
        """Start, stop and restart workers."""
        clock = SystemClock()
        return WorkerControl(self.settings, Supervisor(self.settings, clock), clock)

    def rollout(self) -> Rollout:
        """Change the recorded symbols in steps."""
        return Rollout(self.settings, SystemClock())
