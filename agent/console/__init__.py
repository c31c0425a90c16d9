"""The device's remote door: an HTTPS API in front of core's operations, and the local link.

It decides nothing. Acts carry their own signatures, reads a handle that core gave; an attacker who controls
this package sees sealed messages and what owners read through it, and can withhold or repeat, but not sign.
"""
