"""Pricing: usage × price book × time → a charge in integer pico-USD, or a reason why there is none."""
