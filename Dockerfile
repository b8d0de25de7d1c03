# Images for the robot workstation and the training server. They use the same set-up as a clone (ros2_ws/bootstrap.py),
# which finds the sourced ROS 2 and installs the system libraries it misses.
#
#   docker compose up robot                         # compose.yaml, docs/container.md
#   docker build --target train -t vla-rft:train .
#
# Not built in this project's CI, which has neither docker nor a GPU.

FROM ros:jazzy-ros-base AS base
SHELL ["/bin/bash", "-c"]
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-colcon-common-extensions python3-numpy usbutils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/vla-rft
COPY . .
ENTRYPOINT ["/bin/bash", "-c", "source ros2_ws/install/setup.bash && PATH=$PWD/.venv/bin:$PATH exec \"$@\"", "--"]
CMD ["bash"]

# The robot workstation: drivers, console, calibration and the runtime of a bundle. No torch.
# tensorrt's package on the registry fetches the libraries from the vendor's own index while it is built.
FROM base AS robot
RUN source /opt/ros/jazzy/setup.bash \
 && python3 ros2_ws/bootstrap.py --extra robot --extra calibration --extra console --extra deploy-gpu \
 && rm -rf /var/lib/apt/lists/* ~/.cache .venv/colcon/log
# the image's own user; video and plugdev are the groups of the camera's devices
RUN mkdir -p runs && chown ubuntu runs && usermod -aG video,plugdev ubuntu
USER ubuntu

# The training server: CUDA torch comes with its own CUDA libraries, so the driver is all the host has to bring.
FROM base AS train
RUN source /opt/ros/jazzy/setup.bash \
 && python3 ros2_ws/bootstrap.py --extra sim --extra train --extra deploy-gpu \
 && rm -rf /var/lib/apt/lists/* ~/.cache .venv/colcon/log
RUN mkdir -p runs && chown ubuntu runs
USER ubuntu
