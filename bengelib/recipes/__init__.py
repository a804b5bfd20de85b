"""Whole experiments made of the core: pretraining, fine-tuning, and accuracy by number of labels."""
