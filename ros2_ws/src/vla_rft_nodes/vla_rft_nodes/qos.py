"""Quality of service of every topic, in one place.

Images are best effort: a late picture is worth nothing. State and commands are reliable with depth 1: only the newest
counts. Status is latched: whoever joins late learns it.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

IMAGE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For whoever wants the newest picture (policy, watchdog, console)."""
IMAGE_RECORDED = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For whoever wants every picture (recorder, videos)."""
STATE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
COMMAND = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
EVENT = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Every message counts: verdicts, servo reports."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
