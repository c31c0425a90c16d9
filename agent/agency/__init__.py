"""The agency's own program: its keys and store, what it asks, what it watches, what it can prove afterwards.

An attacker who controls it has what the agency has: its keys, its introductions and the live pictures that
households have agreed to show. It holds nothing that opens an archive, and nothing that a device would take
for an owner's word.
"""
