"""Start a launch file's processes where ROS's own `launch` packages are absent.

`python -m vla_rft_nodes.bringup demo trials:=1` reads the same `launch/demo.launch.yaml` as `ros2 launch
vla_rft_bringup demo.launch.yaml`. From Python: `plan = load("robot", {"backend": "sim"})`, then
`with Supervisor(plan, log_dir=folder) as supervisor: supervisor.start()`.
It does not know rclpy, the nodes, or what they do: it starts processes, shows their output, and leaves none behind.
"""

from .model import LaunchError
from .plan import Plan, ProcessSpec, load
from .supervise import Exit, Supervisor

__all__ = ["Exit", "LaunchError", "Plan", "ProcessSpec", "Supervisor", "load"]
