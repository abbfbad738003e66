"""The simulated market: an IQConnect look-alike on the usual ports, protocol 6.2, with a market of its own or a recording.

Here: order flow (`market`), wire lines (`lines`), recordings (`playback`), the four services, faults, the ledger and the loop that
joins them. What does not belong here: anything that a client of IQConnect needs; the two sides share no code, so that a mistake
in one shows in the other. The source of its behaviour is the protocol description in docs/simulator.md.
"""
