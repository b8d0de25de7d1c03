"""Teleoperation devices: what a hand does on a SpaceMouse, gamepad, keyboard or pedal, as bounded steps of the tcp."""
