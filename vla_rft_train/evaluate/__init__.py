"""Evaluation of each stage: what a trained model is worth, as a page with tables and pictures."""
