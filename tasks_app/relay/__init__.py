"""The relay loop of the engine: puts committed events into the feed."""
