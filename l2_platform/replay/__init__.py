"""Stored days come to life again: the book at an instant, every book state of a day, later the player and the rebuild.

What does not belong here: recording (collectors), delivery to sinks (delivery).
"""
