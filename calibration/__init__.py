"""Intrinsics, hand-eye, table, gripper, latency, drift: pure solvers, and the capture that feeds them from any Cell."""
