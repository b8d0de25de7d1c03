"""Training data: clips of frames, actions and states from datasets and branches, cut into windows and normalised."""
