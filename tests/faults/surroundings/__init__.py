"""Faults of what is around the harness: servers, the wire, files, disks, the clock, the Docker engine."""
