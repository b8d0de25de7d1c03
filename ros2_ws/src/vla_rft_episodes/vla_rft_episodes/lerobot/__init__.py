"""Datasets in LeRobot's v3.0 format: written from episodes, read for training, checked; without torch and lerobot."""
