"""Complete experiments: pretraining, fine-tuning, label efficiency, supervised training and maps."""
