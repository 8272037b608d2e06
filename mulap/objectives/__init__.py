"""What the model is trained to do: `masking` hides and swaps, `losses` measures."""
