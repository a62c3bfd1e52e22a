"""Adversarial training of many small networks at once: what C5 is measured with."""
