"""Calls of the local service to the app: which rules, how they travel, what their answers mean."""
