"""Stage II: reinforcement fine-tuning inside the world model. Pure pieces, each beside its equation."""
