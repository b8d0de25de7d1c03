"""The paper's experiment end to end: steps that call this project's commands, and one page of what came out."""
