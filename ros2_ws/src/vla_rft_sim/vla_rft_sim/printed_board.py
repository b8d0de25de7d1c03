"""A printed ChArUco board as something to be seen: a thin textured plate in MJCF, and the picture on it.

The board's frame is OpenCV's: origin at the outer corner of the first square, x right, y down, z into the board.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vla_rft_core.geometry import Pose
from vla_rft_core.types import Image
from vla_rft_sim.scene import numbers, wxyz

_TEXELS_PER_SQUARE = 96
_MARGIN_SQUARES = 0.5
"""White border around the squares, in squares."""
_THICKNESS_M = 0.004


@dataclass(frozen=True, kw_only=True)
class PrintedBoard:
    """What was printed; the defaults are what `calibration.board` prints unless told otherwise."""

    squares_x: int = 7
    squares_y: int = 5
    square: float = 0.036
    """Side of a square [m]."""
    marker: float = 0.027
    """Side of a marker [m]."""
    dictionary: str = "DICT_4X4_50"
    mirrored: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of all squares [m]."""
        return self.squares_x * self.square, self.squares_y * self.square

    def texture(self) -> Image:
        """The picture with its white margin, RGB."""
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        board = cv2.aruco.CharucoBoard((self.squares_x, self.squares_y), self.square, self.marker, dictionary)
        size = (self.squares_x * _TEXELS_PER_SQUARE, self.squares_y * _TEXELS_PER_SQUARE)
        margin = round(_MARGIN_SQUARES * _TEXELS_PER_SQUARE)
        picture = cv2.copyMakeBorder(board.generateImage(size), *[margin] * 4, cv2.BORDER_CONSTANT, value=255)
        if self.mirrored:
            picture = cv2.flip(picture, 1)
        # Black ink and white paper both reflect some light.
        return cv2.cvtColor((28 + picture * (215 / 255)).astype(np.uint8), cv2.COLOR_GRAY2RGB)

    def assets_xml(self) -> str:
        """Texture (to be painted, see `paint_board`), material and the plate's mesh."""
        height, width = self.texture().shape[:2]
        (w, h), m = self.size, _MARGIN_SQUARES * self.square
        corners = ((-m, -m), (w + m, -m), (w + m, h + m), (-m, h + m))
        vertices = [(x, y, 0.0) for x, y in corners] + [(x, y, _THICKNESS_M) for x, y in corners]
        texture = [(0, 0), (1, 0), (1, 1), (0, 1)] + [(0, 0)] * 4
        faces = ["0 3 2", "0 2 1", "4 5 6", "4 6 7"]
        faces += [f"{i} {(i + 1) % 4} {4 + (i + 1) % 4} {i} {4 + (i + 1) % 4} {4 + i}" for i in range(4)]
        return f"""
        <texture name="board" type="2d" builtin="flat" width="{width}" height="{height}"/>
        <material name="board" texture="board" specular="0" shininess="0" emission=".25"/>
        <mesh name="board" vertex="{numbers(np.ravel(vertices))}" texcoord="{numbers(np.ravel(texture))}"
          face="{" ".join(faces)}" inertia="shell"/>"""


def board_xml(name: str, pose: Pose) -> str:
    """The plate as a geom called `name`, its frame at `pose` in the parent; it touches nothing."""
    return (
        f'<body name="{name}" pos="{numbers(pose.position)}" quat="{wxyz(pose.quaternion)}">'
        f'<geom name="{name}" type="mesh" mesh="board" material="board" contype="0" conaffinity="0" mass="0"/></body>'
    )
