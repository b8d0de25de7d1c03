"""The waist of the system: contracts and pure logic that every other room imports.

Imports the standard library, numpy and yaml only (OpenCV in `image` alone); knows nothing of ROS, torch or an SDK.
"""
