"""The episode file (write, verify, repair) and LeRobot v3 datasets (write, read, check)."""
