"""Output: prints 1 GB."""
#: endings = ["output_limit", "out_of_memory"]
#: seconds = 60
piece = "x" * 2**20
for _ in range(1024):
    print(piece)
