"""Luthier fine-tunes language models end to end: raw examples in, a tuned model and the measured proof out."""
