"""The loop over the passes, as encoders and decoders run it."""
