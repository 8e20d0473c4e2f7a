"""Self-distillation: a network that learns from itself. One file a kind."""
