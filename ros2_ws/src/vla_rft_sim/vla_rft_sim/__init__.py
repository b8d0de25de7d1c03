"""The simulated towel cell: arm, gripper, towel and camera behind the same protocols as the real ones.

Nothing here is imported by nodes or training; they get it by factory string.
"""
