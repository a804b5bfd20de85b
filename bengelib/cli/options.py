"""Choices and help of options that several commands have, known without loading torch."""

DEPTHS = (18, 34, 50)
FUSIONS = ("early", "feature", "late", "film", "decision")
PRECISIONS = ("auto", "no", "bf16", "fp16")
ARITHMETIC = "32 bits (no), 16 bits (bf16, fp16), or 16 bits where the hardware is fast at them (default: auto)"
