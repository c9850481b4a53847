"""Twisted: listeners, connections, timers."""
