"""`python -m benchmarks.recall`: write the section on recall in docs/quality.md from the stored result."""

from benchmarks.recall.page import PAGE, write

if __name__ == "__main__":
    write()
    print(f"written: {PAGE}")
