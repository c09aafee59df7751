"""The page on which a person sees what the local service does, and meddles with it."""
