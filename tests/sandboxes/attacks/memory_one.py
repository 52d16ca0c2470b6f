"""Memory: one process takes all it can."""
#: endings = ["out_of_memory"]
held = []
while True:
    held.append(bytearray(10**7))
