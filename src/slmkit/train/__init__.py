"""Recipes that make models: prepare text, pretrain, tune, export. The only part of slmkit, besides the torch ops
and the Transformers backend, that needs torch."""
