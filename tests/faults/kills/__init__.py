"""Kills: SIGKILL and SIGTERM at random moments of commands at work."""
