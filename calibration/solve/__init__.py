"""The solvers: pure functions of pictures, poses and times. They know no cell, no folder and no command line."""
