"""Training: data, models, stage I (pre-training), stage II (RFT) and their evaluation."""

from vla_rft_train import torchvision_ops

torchvision_ops.install()
