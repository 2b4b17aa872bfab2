"""Where a connection is in its life."""

READING, BUSY, LINGERING, CLOSED = range(4)
"""Waits for a request; has one; has refused or ended, and reads on so that its answer arrives; is no more."""
