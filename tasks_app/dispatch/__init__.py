"""The dispatch loop: ready tasks become hints in the broker, in order, as workers take them."""
