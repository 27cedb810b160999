"""Training for many epochs on little text."""
