"""Online distillation: networks that learn at the same time, from each other. One file a kind."""
