"""How good, how faithful, how well calibrated, how fast and how large: measured, with their spread."""
