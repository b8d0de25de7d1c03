"""Tokenizer, world model and policy: modules with their configurations, from laptop size to the paper's."""
