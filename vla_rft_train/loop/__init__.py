"""The one training loop: order of the data, parallelism, checkpoints, progress. Stages bring model, data and loss."""
