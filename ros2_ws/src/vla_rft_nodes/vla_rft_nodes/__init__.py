"""Thin rclpy shells around the ROS-free rooms; the only Python that imports rclpy."""
