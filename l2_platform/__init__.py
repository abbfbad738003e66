"""Records Level 2, Level 1 and trade data, rebuilds order books and proves that nothing is missing.

The flow, the layers and the rules are in docs/architecture.md; what every table and file means is in docs/data.md.
"""

__version__ = "0.1.0"
