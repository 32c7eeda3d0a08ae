"""The world of the mission benchmark, an account driven as the engine drives it, and the dispatchers that call."""
