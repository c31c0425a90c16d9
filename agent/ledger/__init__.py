"""The disclosure ledger: an RFC 6962 log of every decision, and the state folded from it."""
